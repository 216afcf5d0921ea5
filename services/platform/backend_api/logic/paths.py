"""Paths of routes: their segments, and when two routes would answer the same requests.

/guests/{id}           a parameter: one segment, not empty
/guests/{id}:admit     a parameter with a suffix
/files/{rest...}       the rest of the path, last; it may be empty or hold slashes
"""

import re
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["tail", "parameter", "suffixed", "literal"]

SEGMENTS_MAX: Final = 32
_LITERAL: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@-]+")
_PARAMETER: Final = re.compile(r"\{([a-z_][a-z0-9_]{0,63})\}(:[A-Za-z0-9._~-]{1,64})?")
_TAIL: Final = re.compile(r"\{([a-z_][a-z0-9_]{0,63})\.\.\.\}")


class PathError(ValueError):
    """A path that no route can have; the message says why."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One part of a path between slashes."""

    kind: Kind
    text: str
    """A literal's text, a parameter's suffix, or nothing."""
    name: str = ""

    @property
    def shape(self) -> tuple[str, str]:
        """What it matches, whatever its parameter is called."""
        return (self.kind, self.text)


def segments(path: str) -> tuple[Segment, ...]:
    """The segments of a route's path. Raises PathError."""
    if not path.startswith("/"):
        raise PathError("a path begins with /")
    parts = path[1:].split("/")
    if len(parts) > SEGMENTS_MAX:
        raise PathError(f"a path has at most {SEGMENTS_MAX} segments")
    read = tuple(_segment(part, last=at == len(parts) - 1) for at, part in enumerate(parts))
    names = [segment.name for segment in read if segment.name]
    if len(set(names)) != len(names):
        raise PathError("two parameters have the same name")
    return read


def names(path: str) -> tuple[str, ...]:
    """The parameters' names, from the left. Raises PathError."""
    return tuple(segment.name for segment in segments(path) if segment.name)


def _segment(part: str, *, last: bool) -> Segment:
    if part in {".", ".."}:
        raise PathError("a path has no dot segments")
    if last and not part:
        return Segment("literal", "")
    if tail := _TAIL.fullmatch(part):
        if not last:
            raise PathError("{name...} stands at the end")
        return Segment("tail", "", tail[1])
    if parameter := _PARAMETER.fullmatch(part):
        suffix = parameter[2] or ""
        return Segment("suffixed" if suffix else "parameter", suffix, parameter[1])
    if not _LITERAL.fullmatch(part):
        raise PathError(f"{part!r}: letters, digits and -._~!$&'()*+,;=:@, {{name}} or {{name...}}")
    return Segment("literal", part)


def read_host(host: str) -> str:
    """A route's host in lower case, `*.example.org` for all below one. Raises ValueError."""
    name = host.lower()
    rest = name.removeprefix("*.")
    if not re.fullmatch(r"[a-z0-9_](?:[a-z0-9_.-]{0,252}[a-z0-9_])?", rest) or ".." in rest:
        raise ValueError("a host's name without a port, or *. and a name")
    return name
