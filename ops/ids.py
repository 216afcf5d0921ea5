"""Names for things: sortable ids that carry their region, and ids that nobody can guess.

`str_eu1_01jz3k…` is prefix, region and a ULID (48 bits of Unix milliseconds, 80 random bits, in
Crockford's base 32, lower case), strictly growing within one maker. An id is a name, not a
permission: what opens something by itself is made by `secret_id`.
"""

import re
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ops.clock import SYSTEM, Clock
from ops.errors import Rejected

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES: Final = {character: value for value, character in enumerate(_ALPHABET)}
_RANDOM_BITS: Final = 80
_RANDOM_LIMIT: Final = 1 << _RANDOM_BITS
_TIME_LIMIT: Final = 1 << 48
_SHAPE: Final = re.compile(rf"([a-z]{{2,8}})_([a-z]{{2}}[0-9]{{1,3}})_([0-7][{_ALPHABET}]{{25}})")
_PREFIX: Final = re.compile(r"[a-z]{2,8}")
_REGION: Final = re.compile(r"[a-z]{2}[0-9]{1,3}")

SECRET_CHARACTERS: Final = 26
"""Length of a secret id: 26 characters of base 32 carry 130 random bits."""


@dataclass(frozen=True, slots=True)
class Id:
    """What an id says."""

    prefix: str
    region: str
    ulid: str
    unix_ms: int

    def __str__(self) -> str:
        return f"{self.prefix}_{self.region}_{self.ulid}"


class IdMaker:
    """Makes ids of one region. Safe to share between threads."""

    def __init__(
        self,
        region: str = "eu1",
        *,
        clock: Clock = SYSTEM,
        random_bits: Callable[[int], int] = secrets.randbits,
    ) -> None:
        if not _REGION.fullmatch(region):
            raise ValueError(f"region {region!r}: two letters and a number, such as eu1")
        self._region = region
        self._clock = clock
        self._random_bits = random_bits
        self._last = (0, 0)
        self._lock = threading.Lock()

    def new(self, prefix: str) -> str:
        """An id greater than all this maker has made, even if the wall clock went back."""
        if not _PREFIX.fullmatch(prefix):
            raise ValueError(f"prefix {prefix!r}: two to eight lower-case letters")
        return f"{prefix}_{self._region}_{self._ulid()}"

    def _ulid(self) -> str:
        with self._lock:
            now_ms = int(self._clock.unix() * 1000)
            last_ms, last_random = self._last
            if now_ms > last_ms:
                self._last = (now_ms, self._random_bits(_RANDOM_BITS))
            elif last_random + 1 < _RANDOM_LIMIT:
                self._last = (last_ms, last_random + 1)
            else:
                self._last = (last_ms + 1, self._random_bits(_RANDOM_BITS))
            milliseconds, random = self._last
        assert 0 <= milliseconds < _TIME_LIMIT
        return _encode(milliseconds << _RANDOM_BITS | random, 26)


def parse(text: str) -> Id:
    """The parts of an id. Raises Rejected (`id.malformed`)."""
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise Rejected("this is not an id", code="id.malformed")
    prefix, region, ulid = match.groups()
    return Id(prefix=prefix, region=region, ulid=ulid, unix_ms=_decode(ulid) >> _RANDOM_BITS)


def is_id(text: str, *, prefix: str = "") -> bool:
    """Whether `text` is an id, of that prefix when one is given."""
    match = _SHAPE.fullmatch(text)
    return match is not None and (not prefix or match[1] == prefix)


def secret_id() -> str:
    """130 random bits as 26 characters of base 32: who knows it may use what it names."""
    return _encode(secrets.randbits(5 * SECRET_CHARACTERS), SECRET_CHARACTERS)


def _encode(value: int, characters: int) -> str:
    return "".join(_ALPHABET[value >> 5 * place & 31] for place in reversed(range(characters)))


def _decode(text: str) -> int:
    value = 0
    for character in text:
        value = value << 5 | _VALUES[character]
    return value
