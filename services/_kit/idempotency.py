"""Answers that are given once (draft-ietf-httpapi-idempotency-key-header).

The key belongs to a tenant, a principal and an operation. Whoever runs first holds an advisory lock
until its transaction ends and stores its answer in that transaction; who comes meanwhile is told
to wait (409), who comes later gets the stored answer, and who comes with another request is told
so (422). A failure stores nothing, since its transaction is undone.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from ops.db import Session
from services._kit.actor import Actor
from services._kit.errors import Conflict, Invalid, Malformed

KEEP_HOURS: Final = 24
KEY_CHARACTERS_MAX: Final = 255
PATTERN_NEEDED: Final = (
    r'^("([ !#-\[\]-~]|\\["\\]){1,'
    + str(KEY_CHARACTERS_MAX)
    + r'}"|[!#-~][!-~]{0,'
    + str(KEY_CHARACTERS_MAX - 1)
    + r"})$"
)
"""What an Idempotency-Key is: a string of RFC 8941, or bare."""
PATTERN: Final = rf"^({PATTERN_NEEDED[1:-1]})?$"
"""What it may be where none is needed: empty is as if it were not there."""
_KEY: Final = re.compile(PATTERN_NEEDED)


class StillRunning(Conflict):
    """The same request runs right now."""

    code = "idempotency.running"


@dataclass(frozen=True, slots=True)
class Stored:
    """An answer as it was given."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def parse_key(header: str) -> str:
    """The key of an Idempotency-Key header: a string of RFC 8941, or bare. Raises Malformed."""
    if header == "":
        return ""
    text = header.strip()
    if _KEY.fullmatch(text) is None:
        raise Malformed(f"Idempotency-Key is not a string of 1 to {KEY_CHARACTERS_MAX} characters")
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text


def fingerprint(*parts: bytes) -> bytes:
    """What makes two requests the same: 32 bytes."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


class Once:
    """One key of one call, within its transaction."""

    def __init__(self, actor: Actor, operation: str, key: str, request_hash: bytes) -> None:
        self._where = (actor.tenant, actor.id, operation, key)
        self._hash = request_hash

    async def find(self, session: Session) -> Stored | None:
        """The answer that was given before, or None: it is for this call to give.

        Raises StillRunning, Invalid (`idempotency.reused`).
        """
        lock = int.from_bytes(
            fingerprint(*(part.encode() for part in self._where))[:8], "big", signed=True
        )
        if not await session.value("SELECT pg_try_advisory_xact_lock($1)", lock):
            raise StillRunning("the same request is running")
        row = await session.row(
            "SELECT request_hash, status, headers, body FROM idempotency WHERE tenant = $1"
            " AND principal = $2 AND operation = $3 AND key = $4 AND expires_at > now()",
            *self._where,
        )
        if row is None:
            return None
        if row["request_hash"] != self._hash:
            raise Invalid(
                "this Idempotency-Key was used for another request", code="idempotency.reused"
            )
        return Stored(row["status"], msgspec.json.decode(row["headers"]), row["body"])

    async def keep(self, session: Session, answer: Stored) -> None:
        """Stores the answer, in the transaction of what it tells of."""
        await session.run(
            "INSERT INTO idempotency (tenant, principal, operation, key, request_hash, status,"
            " headers, body, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8,"
            " now() + make_interval(hours => $9)) ON CONFLICT (tenant, principal, operation, key)"
            " DO UPDATE SET request_hash = excluded.request_hash, status = excluded.status,"
            " headers = excluded.headers, body = excluded.body, expires_at = excluded.expires_at",
            *self._where,
            self._hash,
            answer.status,
            msgspec.json.encode(answer.headers).decode(),
            answer.body,
            KEEP_HOURS,
        )
