"""What a call that only reads has of the database: nothing is checked out before it must be.

Single rows come by a connection that many share (`ops/db_pipeline.py`); lists, transactions and
whatever that way cannot carry come by one of the pool's, kept until the call has ended.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

from ops.db import Checkout, Database, Pin, Row, Session, role_of
from ops.db_pipeline import CannotPipeline


class Reader(Session):
    """The session of a call that only reads; `async with` it.

    Each statement is a transaction of its own, unless it is inside `transaction()`.
    """

    __slots__ = ("_checkout", "_database", "_inner")

    def __init__(self, database: Database, schema: str, *, tenant: str) -> None:
        self._database = database
        self.pin = Pin(role_of(schema), schema, tenant)
        self._inner: Session | None = None
        self._checkout: Checkout | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        checkout, self._checkout, self._inner = self._checkout, None, None
        if checkout is not None:
            await checkout.__aexit__(kind, error, trace)

    async def row(self, sql: str, *values: Any) -> Any:
        if self._inner is None:
            try:
                return await self._database.pipelined(self.pin, sql, values)
            except CannotPipeline:
                pass
        return await (await self._session()).row(sql, *values)

    async def value(self, sql: str, *values: Any) -> Any:
        if self._inner is None:
            try:
                found = await self._database.pipelined(self.pin, sql, values)
            except CannotPipeline:
                pass
            else:
                return None if found is None else next(iter(found.values()))
        return await (await self._session()).value(sql, *values)

    async def rows(self, sql: str, *values: Any) -> Sequence[Row]:
        return await (await self._session()).rows(sql, *values)

    async def run(self, sql: str, *values: Any) -> int:
        return await (await self._session()).run(sql, *values)

    async def run_many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        await (await self._session()).run_many(sql, rows)

    async def copy_in(
        self, table: str, *, columns: Sequence[str], rows: Iterable[Sequence[Any]]
    ) -> None:
        await (await self._session()).copy_in(table, columns=columns, rows=rows)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        async with (await self._session()).transaction():
            yield self

    @property
    def in_transaction(self) -> bool:
        return self._inner is not None and self._inner.in_transaction

    async def _session(self) -> Session:
        if self._inner is None:
            checkout = Checkout(self._database, self.pin)
            self._inner = await checkout.__aenter__()
            self._checkout = checkout
        return self._inner
