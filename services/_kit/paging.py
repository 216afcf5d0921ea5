"""Lists by keyset: where the next page begins is the last row's sort key, signed.

A cursor is opaque to who holds it: the position as JSON and a MAC over it, the operation, the
tenant and the query without `limit` and `cursor`. So it cannot be made up, nor used for another
list, and a row that comes or goes between two pages shifts nothing.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec

from services._kit.errors import Invalid, Problem
from services._kit.record import Page

T = TypeVar("T")

Position = tuple[Any, ...]
_MAC_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Slice:
    """What a handler's `page` parameter is: how many rows, and after which position.

    The store asks for `limit + 1` rows after `after` (None: from the beginning), and gives them to
    `page`, which knows by the one too many whether there is a next page.
    """

    limit: int
    after: Position | None
    context: bytes
    secret: bytes

    @property
    def rows(self) -> int:
        """How many rows to ask the database for."""
        return self.limit + 1

    def page(self, items: Sequence[T], position: Callable[[T], Position]) -> Page[T]:
        """The page of up to `limit` of these items."""
        if len(items) <= self.limit:
            return Page(data=tuple(items))
        shown = tuple(items[: self.limit])
        return Page(data=shown, next_cursor=self._sign(position(shown[-1])))

    def _sign(self, position: Position) -> str:
        body = msgspec.json.encode(position)
        return base64.urlsafe_b64encode(_mac(self.secret, self.context, body) + body).decode()


def slice_of(limit: int, cursor: str, *, context: bytes, secret: bytes) -> Slice:
    """The slice that a query asks for. Raises Invalid: the cursor is not from this list."""
    after = None
    if cursor:
        try:
            data = base64.b64decode(cursor, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            data = b""
        mac, body = data[:_MAC_BYTES], data[_MAC_BYTES:]
        if not body or not hmac.compare_digest(mac, _mac(secret, context, body)):
            problem = Problem(
                parameter="cursor", code="cursor", message="This cursor is not of this list."
            )
            raise Invalid("the cursor is not of this list", problems=(problem,))
        after = msgspec.json.decode(body, type=tuple[Any, ...])
    return Slice(limit, after, context, secret)


def _mac(secret: bytes, context: bytes, body: bytes) -> bytes:
    return hmac.digest(secret, context + b"\0" + body, hashlib.sha256)[:_MAC_BYTES]
