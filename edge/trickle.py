"""Reads a trickle ICE fragment (RFC 8840, `application/trickle-ice-sdpfrag`), strictly and bounded.

Candidates are checked for shape only: we are ICE-lite and learn a peer's addresses from its checks.
What matters is whose credentials it carries: other ones than the session's are an ICE restart.
"""

import re
from dataclasses import dataclass
from typing import Final

from edge.problems import Refusal

LINES_MAX: Final = 500
"""Most lines of a fragment."""
_UFRAG: Final = re.compile(r"[A-Za-z0-9+/]{4,256}")
_PWD: Final = re.compile(r"[A-Za-z0-9+/]{22,256}")
_MEDIA: Final = re.compile(r"(audio|video|application|text|message) \d{1,5}(/\d+)? \S+( \S+)+")
_MID: Final = re.compile(r"[!#$%&'*+.^_`{|}~0-9A-Za-z-]{1,64}")
_ATTRIBUTES: Final = {
    "ice-ufrag": (_UFRAG, "an ICE user fragment"),
    "ice-pwd": (_PWD, "an ICE password"),
    "mid": (_MID, "a media id"),
}
_CANDIDATE_WORDS_MIN: Final = 8
_LINE: Final = re.compile(r"[a-z]=[\t -~\x80-\U0010ffff]*")


@dataclass(frozen=True, slots=True)
class Fragment:
    """What a fragment says."""

    ufrag: str
    pwd: str
    mids: tuple[str, ...]
    candidates: int


def parse(body: bytes) -> Fragment:
    """Raises: Refusal (400) naming the line."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise _bad(0, "this is not UTF-8") from None
    lines = text.replace("\r\n", "\n").rstrip("\n").split("\n")
    if len(lines) > LINES_MAX:
        raise _bad(LINES_MAX, f"more than {LINES_MAX} lines")
    found: dict[str, list[str]] = {name: [] for name in _ATTRIBUTES}
    candidates = 0
    for number, line in enumerate(lines, start=1):
        if not _LINE.fullmatch(line):
            raise _bad(number, "not of the form 'x=…'")
        name, _, value = line[2:].partition(":")
        if line.startswith("m="):
            _check(number, _MEDIA, line[2:], "a media description")
        elif not line.startswith("a="):
            continue
        elif name in _ATTRIBUTES:
            shape, what = _ATTRIBUTES[name]
            found[name].append(_check(number, shape, value, what))
        elif name == "candidate":
            if len(value.split()) < _CANDIDATE_WORDS_MIN:
                raise _bad(number, "not a candidate")
            candidates += 1
    ufrags, passwords = set(found["ice-ufrag"]), set(found["ice-pwd"])
    if len(ufrags) != 1 or len(passwords) != 1:
        raise _bad(len(lines), "one a=ice-ufrag and one a=ice-pwd are needed")
    return Fragment(ufrags.pop(), passwords.pop(), tuple(found["mid"]), candidates)


def _check(number: int, shape: re.Pattern[str], value: str, what: str) -> str:
    if not shape.fullmatch(value):
        raise _bad(number, f"not {what}")
    return value


def _bad(number: int, reason: str) -> Refusal:
    return Refusal(400, f"line {number}: {reason}", code="sdp.malformed", fields={"line": number})
