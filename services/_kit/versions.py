"""Versions of objects as entity tags (RFC 9110, section 8.8.3): `"7"`, strong."""

import re
from typing import Final

from services._kit.errors import Malformed

PATTERN: Final = r'^(\*|(W/)?"[!#-~]*")?$'
"""What If-Match may be where any version will do: one tag, `*`, or empty: not there."""
PATTERN_NEEDED: Final = r'^(W/)?"[!#-~]*"$'
"""What it must be where it is needed."""
_TAG: Final = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_EACH: Final = re.compile(_TAG)
_LIST: Final = re.compile(rf"{_TAG}(?:[ \t]*,[ \t]*{_TAG})*")
_OURS: Final = re.compile(r'"(0|[1-9][0-9]{0,17})"')


def etag_of(version: int) -> str:
    """The entity tag of a version."""
    return f'"{version}"'


def expected_version(if_match: str) -> int | None:
    """The version that If-Match names; None: any. -1: one that no object has.

    Raises Malformed when it is no list of entity tags, or names several.
    """
    text = if_match.strip()
    if text in {"", "*"}:
        return None
    tags = _tags(text, "If-Match")
    if len(tags) > 1:
        raise Malformed("If-Match names several versions; one can be changed")
    ours = _OURS.fullmatch(tags[0])
    return int(ours[1]) if ours is not None else -1


def matches(if_none_match: str, *, tag: str) -> bool:
    """Whether If-None-Match names this tag, by weak comparison."""
    text = if_none_match.strip()
    if not text:
        return False
    return text == "*" or tag in {
        known.removeprefix("W/") for known in _tags(text, "If-None-Match")
    }


def _tags(text: str, header: str) -> list[str]:
    if _LIST.fullmatch(text) is None:
        raise Malformed(f"{header} is not a list of entity tags")
    return _EACH.findall(text)
