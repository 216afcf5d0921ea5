"""Single-row reads of many tenants on one connection, one behind another.

Theory of operation. A handler's usual read is one row by its key. On a pool each costs a
connection, a change of tenant and two round trips. Here all that a turn of the event loop asks
leaves in one write, and the answers come in one read:

    Bind set tenant ─ Execute ─ Bind statement ─ Execute ─ Sync │ Bind set tenant ─ …

(PostgreSQL's extended query protocol, section 55.2.3; pipelining, 55.2.4.) Up to its Sync an item
is one implicit transaction, in which the tenant is set locally: no item sees another's, and one
that fails fails alone. Role and search path are the connection's, so there are a few connections a
service. A slow statement holds up those behind it: whoever finds too many outstanding, or asks with
types that are not in the table below, is told to use the pool (`CannotPipeline`).

asyncpg connects and authenticates; then its transport gets this protocol. Results come as text.
"""

import asyncio
import struct
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import asyncpg

from ops.metrics import counter

OUTSTANDING_MAX: Final = 64
"""Reads that one connection may owe; more go to the next connection, or to the pool."""
OWED_MAX: Final = 4_096
"""Items that one connection may owe, those that prepare among them; it takes no more by then."""
STATEMENTS_MAX: Final = 500
"""Statements that one connection prepares; the SQL of services is fixed, so they are few."""
STALLED_SECONDS: Final = 5.0
"""A connection that owes an answer for longer takes no more."""

_SET_TENANT: Final = "SELECT set_config('nexus.tenant', $1, true)"
_SYNC: Final = b"S\0\0\0\4"
_EXECUTE: Final = b"E\0\0\0\x09\0\0\0\0\0"
_HEAD: Final = struct.Struct("!cI")
_INT: Final = struct.Struct("!i")
_SHORT: Final = struct.Struct("!H")

_STALE: Final = (asyncpg.FeatureNotSupportedError, asyncpg.InvalidSQLStatementNameError)
"""What a statement that is no longer, or whose table was changed, answers."""

_reads = counter("nexus_db_pipelined", "Reads that shared a connection with others.")


class CannotPipeline(Exception):  # noqa: N818  a decision, not a fault
    """This read is for the pool."""


def _bytea(text: bytes) -> bytes:
    return bytes.fromhex(text[2:].decode())


def _boolean(text: bytes) -> bool:
    return text == b"t"


_DECODERS: Final[Mapping[int, Callable[[bytes], Any]]] = {
    16: _boolean,
    17: _bytea,
    **dict.fromkeys((20, 21, 23, 26), int),
    **dict.fromkeys((18, 19, 25, 114, 1042, 1043, 3802), bytes.decode),
    **dict.fromkeys((700, 701), float),
    1082: lambda text: date.fromisoformat(text.decode()),
    1184: lambda text: datetime.fromisoformat(text.decode()),
    1700: lambda text: Decimal(text.decode()),
    2950: lambda text: UUID(text.decode()),
}
"""By the type's OID, from text; PostgreSQL's pg_type.dat."""


@dataclass(slots=True, eq=False)
class _Statement:
    """A prepared statement of one connection."""

    bind: bytes
    """What its Bind begins with: an empty portal and its name."""
    names: tuple[str, ...] = ()
    decoders: tuple[Callable[[bytes], Any], ...] | None = ()
    """None: some column has a type that is not in the table."""
    fault: BaseException | None = None
    """Why it could not be prepared."""


@dataclass(slots=True, eq=False)
class _Item:
    """Something that was sent and ends with one ReadyForQuery."""

    statement: _Statement
    future: asyncio.Future[dict[str, Any] | None] | None
    """None: it prepares the statement."""
    sent_at: float
    rows: int = 0
    row: dict[str, Any] | None = None
    fault: BaseException | None = None
    skip: int = field(default=1)
    """DataRows to come before the statement's own: what setting the tenant answers."""


class Pipeline(asyncio.Protocol):
    """One connection, pinned to one service. `open` makes it; `close` ends it."""

    def __init__(self, connection: asyncpg.Connection, loop: asyncio.AbstractEventLoop) -> None:
        self._connection = connection
        """Kept, since asyncpg closes what nobody holds."""
        self._loop = loop
        self._transport: asyncio.Transport = connection._transport  # noqa: SLF001
        self._statements: dict[str, _Statement] = {}
        self._prepared = 0
        self._owed: deque[_Item] = deque(maxlen=OWED_MAX)
        self._outgoing: list[bytes] = []
        self._buffer = b""
        self.broken = False
        self._transport.set_protocol(self)
        self._tenant = self._prepare(_SET_TENANT)

    @property
    def owes(self) -> int:
        """Reads whose answers are to come."""
        return len(self._owed)

    @property
    def stalled(self) -> bool:
        """Whether its oldest read is overdue."""
        owed = self._owed
        return bool(owed) and self._loop.time() - owed[0].sent_at > STALLED_SECONDS

    def row(
        self, sql: str, values: Sequence[Any], tenant: str
    ) -> "asyncio.Future[dict[str, Any] | None]":
        """The first row of a statement, by column name; None without one.

        The future raises asyncpg's errors. Raises CannotPipeline.
        """
        statement = self._statements.get(sql)
        if statement is None:
            if len(self._statements) >= STATEMENTS_MAX:
                raise CannotPipeline
            statement = self._prepare(sql)
        if statement.decoders is None:
            raise CannotPipeline
        item = _Item(statement, self._loop.create_future(), self._loop.time())
        message = _bind(self._tenant, (tenant,)) + _bind(statement, values) + _SYNC
        self._send(item, message)
        _reads.inc()
        return item.future  # type: ignore[return-value]

    def close(self) -> None:
        """Ends the connection; what it owes fails."""
        self.broken = True
        self._connection.terminate()
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Reads the server's messages."""
        if self._buffer:
            data = self._buffer + data
        place, end = 0, len(data)
        owed = self._owed
        while end - place >= 5:
            kind, length = _HEAD.unpack_from(data, place)
            following = place + 1 + length
            if following > end:
                break
            body = place + 5
            if kind == b"D":
                _take_row(owed[0], data, body)
            elif kind == b"Z":
                self._settle(owed.popleft())
            elif kind == b"E" and owed:
                # With nothing owed it is why the server ends the connection.
                owed[0].fault = _fault(data[body:following])
            elif kind == b"T":
                _describe(owed[0].statement, data, body)
            place = following
        self._buffer = data[place:]

    def connection_lost(self, exc: Exception | None) -> None:
        self.broken = True
        self._connection.terminate()
        fault = ConnectionError("the connection to PostgreSQL was lost")
        fault.__cause__ = exc
        while self._owed:
            item = self._owed.popleft()
            item.fault = fault
            self._settle(item)

    def _settle(self, item: _Item) -> None:
        """An item's last message has come."""
        future, fault, statement = item.future, item.fault, item.statement
        if future is None:
            statement.fault = fault
        elif isinstance(fault, _STALE):
            # The table was changed, or the statement could not be prepared: it is prepared anew.
            fault = statement.fault or CannotPipeline()
        if fault is not None:
            for sql in [sql for sql, known in self._statements.items() if known is statement]:
                if future is None or isinstance(fault, CannotPipeline):
                    del self._statements[sql]
        if future is None or future.done():
            return
        if fault is not None:
            future.set_exception(fault)
        else:
            future.set_result(item.row)

    def _prepare(self, sql: str) -> _Statement:
        self._prepared += 1
        name = b"r%d\0" % self._prepared
        statement = self._statements[sql] = _Statement(b"\0" + name)
        parse = name + sql.encode() + b"\0\0\0"
        message = (
            b"P" + _INT.pack(len(parse) + 4) + parse + b"D" + _INT.pack(len(name) + 5) + b"S" + name
        )
        self._send(_Item(statement, None, self._loop.time()), message + _SYNC)
        return statement

    def _send(self, item: _Item, message: bytes) -> None:
        if self.broken or len(self._owed) == OWED_MAX:
            raise CannotPipeline
        self._owed.append(item)
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(message)

    def _flush(self) -> None:
        messages, self._outgoing = self._outgoing, []
        if not self.broken:
            self._transport.write(b"".join(messages))


async def open_pipeline(
    url: str, *, pin: Callable[[asyncpg.Connection], Any], **how: Any
) -> Pipeline:
    """A new connection. pin: sets its role and search path. how: for `asyncpg.connect`."""
    connection = await asyncpg.connect(url, **how)
    try:
        await pin(connection)
        return Pipeline(connection, asyncio.get_running_loop())
    except BaseException:
        with suppress(Exception):
            connection.terminate()
        raise


def encode(value: Any) -> bytes | None:
    """A parameter as text. Raises CannotPipeline: a type that is not in the table."""
    if value is None:
        return None
    if isinstance(value, str):
        return value.encode()
    if value is True or value is False:
        return b"t" if value else b"f"
    if isinstance(value, int | Decimal | UUID):
        return str(value).encode()
    if isinstance(value, bytes):
        return b"\\x" + value.hex().encode()
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.isoformat().encode()
    raise CannotPipeline


def _bind(statement: _Statement, values: Sequence[Any]) -> bytes:
    """Bind with text parameters and results, and Execute."""
    parts = [statement.bind, b"\0\0", _SHORT.pack(len(values))]
    for value in values:
        text = encode(value)
        if text is None:
            parts.append(b"\xff\xff\xff\xff")
        else:
            parts.append(_INT.pack(len(text)))
            parts.append(text)
    parts.append(b"\0\0")
    body = b"".join(parts)
    return b"B" + _INT.pack(len(body) + 4) + body + _EXECUTE


def _take_row(item: _Item, data: bytes, place: int) -> None:
    """Keeps the statement's first row."""
    if item.skip:
        item.skip -= 1
        return
    item.rows += 1
    if item.rows > 1:
        return
    statement = item.statement
    if statement.decoders is None:
        item.fault = CannotPipeline()
        return
    place += 2
    values: list[Any] = []
    for decode in statement.decoders:
        (length,) = _INT.unpack_from(data, place)
        place += 4
        if length < 0:
            values.append(None)
            continue
        try:
            values.append(decode(data[place : place + length]))
        except ValueError:
            # A value that Python has no word for, such as infinity.
            item.fault = CannotPipeline()
            return
        place += length
    item.row = dict(zip(statement.names, values, strict=True))


def _describe(statement: _Statement, data: bytes, place: int) -> None:
    """Names and types of a statement's columns (RowDescription)."""
    (count,) = _SHORT.unpack_from(data, place)
    place += 2
    names: list[str] = []
    decoders: list[Callable[[bytes], Any] | None] = []
    for _ in range(count):
        end = data.index(b"\0", place)
        names.append(data[place:end].decode())
        (oid,) = struct.unpack_from("!I", data, end + 7)
        decoders.append(_DECODERS.get(oid))
        place = end + 19
    statement.names = tuple(names)
    known = tuple(decoder for decoder in decoders if decoder is not None)
    statement.decoders = known if len(known) == count else None


def _fault(body: bytes) -> BaseException:
    """ErrorResponse as asyncpg's error."""
    fields = {part[:1].decode(): part[1:].decode() for part in body.split(b"\0") if part}
    fault: BaseException = asyncpg.PostgresError.new(fields)
    return fault
