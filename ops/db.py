"""PostgreSQL connections, each pinned to one service's role and schema and to one tenant.

    checkout(schema, tenant)
        ├── an idle connection with the same pin      no round trip
        ├── an idle one with another                  one: role, search path and tenant are set
        ├── a new one, below `connections_max`        connect, then as above
        └── none: wait in line, `waiters_max` long, `wait_seconds` at most

A pin is three settings of the session: `role` (the service's run-time role, which may touch its own
schema only), `search_path` (that schema) and `nexus.tenant` (which row-level security compares with
every row). The answer to setting them is compared with what was asked, and so is the pin that a
connection has when it is checked out. Nobody else may change them: a session that ends inside a
transaction, or whose connection broke, is not used again.

What only reads may go past the pool: see `ops/db_reader.py`.

What the database refuses is told apart in `ops/db_faults.py`. It knows no table; queries
are in each service's `store.py`.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TypeAlias

import asyncpg

from ops.db_faults import FAULTS, DatabaseFault, translated
from ops.db_pipeline import OUTSTANDING_MAX, CannotPipeline, Pipeline, open_pipeline
from ops.metrics import counter, gauge
from ops.settings import setting

Row: TypeAlias = asyncpg.Record

RELAY_ROLE: Final = "nexus_relay"
"""Reads and settles outboxes and jobs of every tenant, and nothing else."""

_PIN: Final = (
    "SELECT set_config('role', $1, false), set_config('search_path', $2, false),"
    " set_config('nexus.tenant', $3, false)"
)
_PIN_TENANT: Final = "SELECT set_config('nexus.tenant', $1, false)"

_open = gauge("nexus_db_connections", "Open connections to PostgreSQL.")
_waiting = gauge("nexus_db_waiting", "Checkouts that wait for a connection.")
_pins = counter("nexus_db_pins", "Checkouts that had to pin a connection anew.")
_refused = counter("nexus_db_refused", "Checkouts refused: too many waited, or for too long.")


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """Where the truth is kept, and how many connections may be open to it."""

    url: str = setting(
        "",
        "PostgreSQL of this region, postgresql://…; empty: the embedded one.",
        secret=True,
    )
    admin_url: str = setting(
        "",
        "The same server as one who may create roles and schemas; empty: as `url` says.",
        secret=True,
    )
    connections_max: int = setting(
        32, "Connections that one process holds open at most.", min=2, max=1_000
    )
    waiters_max: int = setting(
        2_000, "Requests of one process that wait for a connection at most.", min=0, max=100_000
    )
    wait_seconds: float = setting(
        1.0, "Seconds that a request waits for a connection.", min=0.01, max=60
    )
    pipelines_max: int = setting(
        8,
        "Connections beside those that one process opens for reads of single rows, which many"
        " share; 0: none.",
        min=0,
        max=1_000,
    )
    connect_seconds: float = setting(
        1.0, "Seconds that opening a connection may take.", min=0.05, max=60
    )
    statement_seconds: float = setting(
        5.0, "Seconds after which a statement is cancelled.", min=0.1, max=3_600
    )
    idle_in_transaction_seconds: float = setting(
        10.0,
        "Seconds after which a transaction that does nothing is ended: it would hold back every"
        " event of the cluster.",
        min=0.1,
        max=3_600,
    )


class Pin(NamedTuple):
    """For whom a connection works: a service's role and schema, and a tenant ("": none)."""

    role: str
    schema: str
    tenant: str


Committed = Callable[[str, frozenset[str]], None]
"""Takes the schema and the tenants of a committed transaction; no tenants: it may be any."""


class Session:
    """One checked-out connection. Statements run as the pin's role, seeing the pin's tenant alone.

    Raises, from every method: DatabaseFault, Duplicate, Violation.
    """

    __slots__ = ("_committed", "_concerned", "_connection", "_depth", "pin")

    def __init__(
        self, connection: asyncpg.Connection, pin: Pin, committed: Committed | None = None
    ) -> None:
        """committed: told of each transaction that was."""
        self._connection = connection
        self._committed = committed
        self._concerned: set[str] = set()
        self._depth = 0
        """Transactions that are open, one within another."""
        self.pin = pin

    def concerns(self, tenant: str) -> None:
        """Says that this transaction writes rows of a tenant that is not the pin's."""
        self._concerned.add(tenant)

    async def row(self, sql: str, *values: Any) -> Row | None:
        """The first row, or None."""
        try:
            return await self._connection.fetchrow(sql, *values)
        except FAULTS as fault:
            raise translated(fault) from fault

    async def rows(self, sql: str, *values: Any) -> Sequence[Row]:
        """All rows."""
        try:
            found: Sequence[Row] = await self._connection.fetch(sql, *values)
        except FAULTS as fault:
            raise translated(fault) from fault
        return found

    async def value(self, sql: str, *values: Any) -> Any:
        """The first column of the first row, or None."""
        try:
            return await self._connection.fetchval(sql, *values)
        except FAULTS as fault:
            raise translated(fault) from fault

    async def run(self, sql: str, *values: Any) -> int:
        """Runs it; how many rows it touched."""
        try:
            status: str = await self._connection.execute(sql, *values)
        except FAULTS as fault:
            raise translated(fault) from fault
        count = status.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    async def run_many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Runs it once for each row, all or none."""
        try:
            await self._connection.executemany(sql, rows)
        except FAULTS as fault:
            raise translated(fault) from fault

    async def copy_in(
        self, table: str, *, columns: Sequence[str], rows: Iterable[Sequence[Any]]
    ) -> None:
        """Writes many rows by COPY, into a table without tenants: PostgreSQL has no COPY under
        row-level security. For others there is `run_many`."""
        try:
            await self._connection.copy_records_to_table(
                table, columns=columns, records=rows, schema_name=self.pin.schema
            )
        except FAULTS as fault:
            raise translated(fault) from fault

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["Session"]:
        """Everything inside happens, or nothing. Inside another one: a savepoint.

        What the body raises stays what it is: an OSError there need not be the database's.
        """
        transaction = self._connection.transaction()
        try:
            await transaction.start()
        except BaseException as fault:
            # The client library would take the connection's next transaction for a part of this
            # one, and never commit it.
            self._connection.terminate()
            if isinstance(fault, FAULTS):
                raise translated(fault) from fault
            raise
        self._depth += 1
        try:
            yield self
        except BaseException:
            self._depth -= 1
            # A connection that cannot even roll back is closed when it is given back.
            with suppress(*FAULTS):
                await transaction.rollback()
            raise
        self._depth -= 1
        try:
            await transaction.commit()
        except FAULTS as fault:
            raise translated(fault) from fault
        if not self._depth and self._committed is not None and self.pin.role != RELAY_ROLE:
            tenants = self._concerned or {self.pin.tenant} - {""}
            self._concerned = set()
            self._committed(self.pin.schema, frozenset(tenants))

    @property
    def in_transaction(self) -> bool:
        return bool(self._connection.is_in_transaction())


class Database:
    """The pool of one process for one server. `async with` it.

    Owns: its connections. Entering opens none, so that a process starts while the server is away.
    """

    def __init__(
        self,
        url: str,
        settings: DatabaseSettings,
        *,
        options: Mapping[str, str] | None = None,
    ) -> None:
        """options: settings of PostgreSQL for each session, such as `enable_seqscan`."""
        self._url = url
        self._options = dict(options or {})
        self._settings = settings
        self._idle: OrderedDict[asyncpg.Connection, Pin] = OrderedDict()
        """Longest idle first."""
        self._by_pin: dict[Pin, list[asyncpg.Connection]] = {}
        self._count = 0
        self._waiters: deque[asyncio.Future[_Given | None]] = deque(maxlen=settings.waiters_max + 1)
        self._pipelines: OrderedDict[str, Pipeline] = OrderedDict()
        """By schema; longest unused first."""
        self._opening: set[str] = set()
        self._closed = False
        self._deeper: Database | None = None
        self.committed: Committed | None = None
        """Told of each transaction of a service's role that has been committed."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed = True
        if self._deeper is not None:
            await self._deeper.__aexit__(kind, error, trace)
        for connection in tuple(self._idle):
            self._forget(connection)
            connection.terminate()
        for pipeline in self._pipelines.values():
            pipeline.close()
        self._pipelines.clear()

    @property
    def deeper(self) -> "Database":
        """Another pool, as large, for who holds a connection of this one and needs one more: in one
        pool, all who hold one could wait for each other. It is closed with this one.

        Raises DatabaseFault: they are."""
        if self._closed:
            raise DatabaseFault("the database is closed", retry_after_seconds=1)
        if self._deeper is None:
            self._deeper = Database(self._url, self._settings, options=self._options)
        self._deeper.committed = self.committed
        return self._deeper

    def session(self, schema: str, *, tenant: str) -> "Checkout":
        """`async with` it for a `Session` of a service and a tenant."""
        return Checkout(self, Pin(role_of(schema), schema, tenant))

    async def pipelined(self, pin: Pin, sql: str, values: Sequence[Any]) -> Any:
        """The first row, by column name, or None. Raises CannotPipeline: ask the pool instead.

        Raises DatabaseFault.
        """
        pipeline = self._pipelines.get(pin.schema)
        if pipeline is None or pipeline.broken:
            pipeline = await self._open_pipeline(pin)
        elif pipeline.owes >= OUTSTANDING_MAX:
            if pipeline.stalled:
                self._pipelines.pop(pin.schema).close()
            raise CannotPipeline
        try:
            return await pipeline.row(sql, values, pin.tenant)
        except FAULTS as fault:
            raise translated(fault) from fault

    async def _open_pipeline(self, pin: Pin) -> Pipeline:
        """A connection for this schema's reads. Raises CannotPipeline, DatabaseFault."""
        most = self._settings.pipelines_max
        if self._closed or pin.schema in self._opening or not most:
            raise CannotPipeline
        self._pipelines.pop(pin.schema, None)
        if len(self._pipelines) + len(self._opening) >= most:
            idle = next((name for name, line in self._pipelines.items() if not line.owes), None)
            if idle is None:
                raise CannotPipeline
            self._pipelines.pop(idle).close()
        self._opening.add(pin.schema)
        try:
            settled = Pin(pin.role, pin.schema, "")
            pipeline = await open_pipeline(
                self._url, pin=lambda made: made.fetchrow(_PIN, *settled), **self._how()
            )
        except FAULTS as fault:
            raise translated(fault) from fault
        finally:
            self._opening.discard(pin.schema)
        self._pipelines[pin.schema] = pipeline
        return pipeline

    def relay(self, schema: str) -> "Checkout":
        """Likewise for outbox, inbox and jobs of every tenant in one schema."""
        return Checkout(self, Pin(RELAY_ROLE, schema, ""))

    async def acquire(self, pin: Pin) -> asyncpg.Connection:
        """A connection with this pin, the caller's until `release`. Raises DatabaseFault."""
        while True:
            has: Pin | None = pin
            connection = self._take(pin)
            if connection is None:
                connection, has = await self._any()
            if connection.is_closed():
                # It died while it was idle, which is nobody's fault who comes now.
                self._lost(connection)
                continue
            if has != pin:
                await self._repin(connection, has, pin)
            return connection

    def release(self, connection: asyncpg.Connection, pin: Pin) -> None:
        """Gives it back; one that is broken or left a transaction open is closed."""
        if self._closed or connection.is_closed() or connection.is_in_transaction():
            self._lost(connection)
            return
        turn = self._next_waiter()
        if turn is not None:
            turn.set_result((connection, pin))
            return
        self._idle[connection] = pin
        self._by_pin.setdefault(pin, []).append(connection)

    def _take(self, pin: Pin) -> asyncpg.Connection | None:
        """An idle connection that is pinned so already."""
        same = self._by_pin.get(pin)
        if not same or self._waiters:
            return None
        connection = same.pop()
        if not same:
            del self._by_pin[pin]
        assert self._idle.pop(connection) == pin
        return connection

    async def _any(self) -> "tuple[asyncpg.Connection, Pin | None]":
        """Any idle connection, a new one, or the next that is given back."""
        most = self._settings.connections_max
        if self._closed:
            raise DatabaseFault("the database is closed", retry_after_seconds=1)
        if self._waiters or not (self._idle or self._count < most):
            given = await self._wait()
            return given if given is not None else (await self._connect(), None)
        if self._count < most and len(self._idle) <= most // 2:
            self._count += 1
            return await self._connect(), None
        return self._longest_idle()

    async def _connect(self) -> asyncpg.Connection:
        """A new connection; the caller has counted it."""
        try:
            connection = await asyncpg.connect(self._url, **self._how())
        except BaseException as fault:
            self._room_made()
            if isinstance(fault, TimeoutError):
                raise DatabaseFault(
                    "the database cannot be reached", retry_after_seconds=1
                ) from None
            if isinstance(fault, FAULTS):
                raise translated(fault) from fault
            raise
        _open.set(self._count)
        return connection

    def _how(self) -> dict[str, Any]:
        """How to connect, for asyncpg."""
        settings = self._settings
        return {
            "timeout": settings.connect_seconds,
            "command_timeout": settings.statement_seconds + 1.0,
            "server_settings": {
                "application_name": "nexus",
                "statement_timeout": str(int(settings.statement_seconds * 1_000)),
                "idle_in_transaction_session_timeout": str(
                    int(settings.idle_in_transaction_seconds * 1_000)
                ),
                **self._options,
            },
        }

    async def _repin(self, connection: asyncpg.Connection, has: Pin | None, pin: Pin) -> None:
        _pins.inc()
        try:
            if has is not None and has.role == pin.role and has.schema == pin.schema:
                answer = await connection.fetchrow(_PIN_TENANT, pin.tenant)
                assert tuple(answer) == (pin.tenant,), answer
            else:
                answer = await connection.fetchrow(_PIN, *pin)
                assert tuple(answer) == pin, answer
        except BaseException as fault:
            self._lost(connection)
            if isinstance(fault, FAULTS):
                raise translated(fault) from fault
            raise

    async def _wait(self) -> "_Given | None":
        """A connection handed over, or None: one more may be opened, and is counted already.

        Raises DatabaseFault (`db.busy`).
        """
        if len(self._waiters) >= self._settings.waiters_max:
            _refused.inc()
            raise DatabaseFault("too many wait", code="db.busy", retry_after_seconds=1)
        turn: asyncio.Future[_Given | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(turn)
        _waiting.set(len(self._waiters))
        try:
            async with asyncio.timeout(self._settings.wait_seconds):
                return await turn
        except BaseException as fault:
            if turn.done() and not turn.cancelled():
                given = turn.result()
                if given is None:
                    self._room_made()
                else:
                    self.release(*given)
            if isinstance(fault, TimeoutError):
                _refused.inc()
                raise DatabaseFault(
                    "no connection became free", code="db.busy", retry_after_seconds=1
                ) from None
            raise
        finally:
            if turn in self._waiters:
                self._waiters.remove(turn)
            _waiting.set(len(self._waiters))

    def _next_waiter(self) -> "asyncio.Future[_Given | None] | None":
        while self._waiters:
            turn = self._waiters.popleft()
            if not turn.done():
                return turn
        return None

    def _longest_idle(self) -> "_Given":
        connection, pin = next(iter(self._idle.items()))
        self._forget(connection)
        return connection, pin

    def _room_made(self) -> None:
        """A connection is no more: whoever waits longest may open another."""
        turn = self._next_waiter()
        if turn is not None:
            turn.set_result(None)
            return
        self._count -= 1
        _open.set(self._count)

    def _forget(self, connection: asyncpg.Connection) -> None:
        """Takes it out of the idle ones."""
        pin = self._idle.pop(connection)
        same = self._by_pin[pin]
        same.remove(connection)
        if not same:
            del self._by_pin[pin]

    def _lost(self, connection: asyncpg.Connection) -> None:
        """It is used no more."""
        connection.terminate()
        self._room_made()


_Given = tuple[asyncpg.Connection, Pin]
"""An idle connection and the pin it has."""


class Checkout:
    """A session from its checkout to its return; a class, since a generator costs twice as much."""

    __slots__ = ("_connection", "_database", "_pin")

    def __init__(self, database: Database, pin: Pin) -> None:
        self._database = database
        self._pin = pin
        self._connection: asyncpg.Connection | None = None

    async def __aenter__(self) -> Session:
        self._connection = connection = await self._database.acquire(self._pin)
        return Session(connection, self._pin, self._database.committed)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        connection, self._connection = self._connection, None
        assert connection is not None
        self._database.release(connection, self._pin)


def role_of(schema: str) -> str:
    """The run-time role of a service's schema."""
    return f"nexus_{schema}"


def owner_of(schema: str) -> str:
    """The role that owns a service's schema and runs its migrations."""
    return f"nexus_{schema}_owner"
