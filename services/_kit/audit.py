"""The audit log: one row a write, in the write's transaction, chained by SHA-256 per tenant.

    hash = SHA-256(previous hash | sequence number, 8 bytes big endian | entry)

where the entry is canonical JSON (RFC 8785 for the strings and integers that it holds: names in
order, no white space). The row is appended by a function of the schema (migration 0001) that holds
the chain's head until the transaction ends, so it comes last. The run-time role can insert through
that function alone; nobody updates or deletes. Values of fields never appear in it, only hashes.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from ops.db import Session
from services._kit.actor import Actor

ORIGIN: Final = bytes(32)
"""What comes before a tenant's first row."""
_BATCH_ROWS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Broken:
    """Where a chain does not hold."""

    seq: int
    reason: str


def entry_of(
    actor: Actor, *, action: str, target: str, unix_ms: int, facts: Mapping[str, str | int]
) -> str:
    """One entry as canonical JSON. facts: `before`, `after` hashes and the like, no values."""
    entry: dict[str, str | int] = {
        "action": action,
        "actor": actor.id,
        "at_ms": unix_ms,
        "kind": actor.kind,
        "on_behalf_of": actor.on_behalf_of,
        "session": actor.session,
        "target": target,
        "tenant": actor.tenant,
        "trace": actor.trace,
        **facts,
    }
    shown = {name: value for name, value in entry.items() if value != ""}
    return msgspec.json.encode(shown, order="sorted").decode()


async def append(session: Session, entry: str, *, actor: Actor, action: str, target: str) -> None:
    """Adds an entry to the tenant's chain; the last thing that its transaction does."""
    assert session.in_transaction, "an audit row belongs to a change"
    await session.row(
        "SELECT audit_append($1, $2, $3, $4, $5)", actor.tenant, actor.id, action, target, entry
    )


async def verify(session: Session) -> Broken | None:
    """Checks the whole chain of the session's tenant; None: it holds."""
    before, expected = ORIGIN, 1
    while True:
        rows = await session.rows(
            "SELECT seq, entry, actor, action, target, hash FROM audit WHERE seq >= $1"
            " ORDER BY seq LIMIT $2",
            expected,
            _BATCH_ROWS,
        )
        for row in rows:
            if row["seq"] != expected:
                return Broken(expected, "a row is missing")
            data = before + expected.to_bytes(8, "big") + row["entry"].encode()
            if hashlib.sha256(data).digest() != row["hash"]:
                return Broken(expected, "the hash does not fit")
            told = msgspec.json.decode(row["entry"])
            columns = (row["actor"], row["action"], row["target"])
            if columns != (told.get("actor", ""), told["action"], told.get("target", "")):
                return Broken(expected, "a column does not say what the entry says")
            before, expected = row["hash"], expected + 1
        if len(rows) < _BATCH_ROWS:
            break
    head = await session.row("SELECT seq, hash FROM audit_head")
    known = (head["seq"], head["hash"]) if head is not None else (0, ORIGIN)
    if known != (expected - 1, before):
        return Broken(expected, "the newest rows are missing")
    return None
