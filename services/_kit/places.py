"""Where in a body something stands, as a JSON pointer (RFC 6901); asked for what is refused."""

import json
import re
from typing import Any, Final

POINTER_CHARACTERS_MAX: Final = 1_000
"""Longest pointer that is told; the rest of a longer one is left off."""
_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{},:]', re.DOTALL)


def joined(*steps: str | int) -> str:
    """The pointer of these steps. What no UTF-8 can say is told by its escape."""
    text = "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)
    return text.encode(errors="backslashreplace").decode()[:POINTER_CHARACTERS_MAX]


def place_of(value: Any, item: Any) -> str:
    """Where an object is in decoded JSON, or a member whose name it is."""
    left: list[tuple[Any, tuple[str | int, ...]]] = [(value, ())]
    while left:
        found, steps = left.pop()
        if found is item:
            return joined(*steps)
        members = found.items() if isinstance(found, dict) else ()
        for name, member in members:
            if name is item:
                return joined(*steps, name)
            left.append((member, (*steps, name)))
        if isinstance(found, list):
            left.extend((member, (*steps, at)) for at, member in enumerate(found))
    return ""


def place_of_depth(body: bytes, depth_max: int) -> str:
    """Where JSON is first nested deeper than this, however deep it goes on."""
    steps: list[str | int] = []
    text = b'""'
    for token in _TOKEN.finditer(body):
        match token[0]:
            case b"[" | b"{":
                if len(steps) == depth_max:
                    break
                steps.append(0 if token[0] == b"[" else "")
            case b"]" | b"}":
                del steps[-1:]
            case b",":
                if steps and isinstance(steps[-1], int):
                    steps[-1] += 1
            case b":":
                if steps:
                    steps[-1] = _name(text)
            case other:
                text = other
    return joined(*steps)


def _name(text: bytes) -> str:
    try:
        return str(json.loads(text))
    except ValueError:
        return ""
