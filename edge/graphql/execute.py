"""Runs a plan: root fields through the services, then what links lead to, level by level.

    query:     all root fields together ─▶ shown ─▶ gaps of all of them filled together ─▶ …
    mutation:  one root field ─▶ shown ─▶ its gaps filled ─▶ the next one

A level asks for the records of one entity in one call, however many rows and fields lead to them:
the number of calls grows with the depth of a query, never with its rows. A root field or a link
that fails is null and an error; all others are given. What the whole operation may take bounds each
call of it, so that an answer comes in time with what was there by then.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, TypeVar

from graphql import GraphQLError
from graphql.execution.values import VariableValues
from msgspec import Raw

from edge.graphql.arguments import bind
from edge.graphql.backend import Backend
from edge.graphql.introspection import Introspection
from edge.graphql.outputs import Linked
from edge.graphql.plan import Plan, RootField
from edge.graphql.settings import GraphqlSettings
from edge.graphql.shapes import Broken, Fault, Gap, Pending
from ops import metrics
from ops.errors import Unavailable
from ops.tasks import outcome, within
from services._kit.actor import Actor

T = TypeVar("T")

SCHEMA_FIELD: Final = "__schema"
YIELD_OBJECTS: Final = 200
"""Linked records that are shown before others have their turn on the event loop."""

_held = metrics.counter("nexus_graphql_calls_held", "Calls that waited for others of their query.")
_links = metrics.counter("nexus_graphql_links", "Linked records asked for.")
_link_calls = metrics.counter("nexus_graphql_link_calls", "Calls that asked for linked records.")


@dataclass(frozen=True, slots=True)
class Executed:
    """What came of an operation."""

    data: dict[str, Any]
    faults: list[tuple[Fault, RootField | None]]
    """With the root field whose arguments or call it was, if so."""


@dataclass(frozen=True, slots=True)
class Call:
    """A root field with its coerced arguments, or why they could not be."""

    field: RootField
    arguments: Mapping[str, Any] | Exception


def calls(plan: Plan, variables: VariableValues) -> list[Call]:
    """The root fields' arguments."""
    found: list[Call] = []
    for field in plan.roots:
        try:
            found.append(Call(field, field.arguments(variables)))
        except GraphQLError as error:
            found.append(Call(field, error))
    return found


def tokens(asked: Sequence[Call]) -> int:
    """What the operation costs."""
    return sum(
        call.field.tokens({} if isinstance(call.arguments, Exception) else call.arguments)
        for call in asked
    )


class Executor:
    """Runs operations."""

    def __init__(self, backend: Backend, settings: GraphqlSettings) -> None:
        self.backend = backend
        self.settings = settings
        self.introspection = Introspection()

    async def run(
        self, plan: Plan, asked: Sequence[Call], actor: Actor, *, in_thread: bool = False
    ) -> Executed:
        """Runs an operation. Raises nothing but what ends the task.

        in_thread: its arguments are large, and are decoded beside the event loop.
        """
        return await _Run(self, plan, actor, in_thread=in_thread).run(asked)


class _Run:
    """One operation under way."""

    def __init__(self, executor: Executor, plan: Plan, actor: Actor, *, in_thread: bool) -> None:
        self._in_thread = in_thread
        settings = executor.settings
        self._plan = plan
        self._actor = actor
        self._backend = executor.backend
        self._introspection = executor.introspection
        self._settings = settings
        self._ends = asyncio.get_running_loop().time() + settings.operation_seconds_max
        self._pending = Pending()
        self._failed: list[tuple[Fault, RootField | None]] = []
        self._known: dict[Linked, dict[str, Any]] = {}
        self._data: dict[str, Any] = {}

    async def run(self, asked: Sequence[Call]) -> Executed:
        self._data = dict.fromkeys(call.field.key for call in asked)
        if self._plan.is_query:
            answers = await self._together([self._caller(call) for call in asked])
            for call, answer in zip(asked, answers, strict=True):
                self._show(call.field, answer)
            await self._fill()
        else:
            for call in asked:
                self._known.clear()
                self._show(call.field, await outcome(self._caller(call)()))
                await self._fill()
        faults: list[tuple[Fault, RootField | None]] = [
            *self._failed,
            *((fault, None) for fault in self._pending.faults),
        ]
        return Executed(self._data, faults)

    def _caller(self, call: Call) -> Callable[[], Awaitable[Any]]:
        async def ask() -> Any:
            if isinstance(call.arguments, Exception):
                raise call.arguments
            root = call.field.root
            if root is None:
                return await self._schema(call.field, call.arguments)
            if self._in_thread:
                bound = await asyncio.to_thread(bind, root, call.arguments, self._actor)
            else:
                bound = bind(root, call.arguments, self._actor)
            answer = await self._in_time(
                lambda: self._backend.invoke(
                    root.operation, self._actor, bound.arguments, idempotency_key=bound.key
                )
            )
            return True if root.operation.result is type(None) else answer

        return ask

    async def _schema(self, field: RootField, arguments: Mapping[str, Any]) -> Any:
        assert field.resolve is not None
        if field.node.name.value == SCHEMA_FIELD:
            return await self._introspection.answer(field, arguments)
        return field.resolve(arguments)

    def _show(self, field: RootField, answer: Any) -> None:
        """Puts a root field's answer into the data, or an error beside it."""
        path = (None, field.key)
        if isinstance(answer, Exception):
            self._failed.append((Fault(answer, path, field.node), field))
            return
        if isinstance(answer, Raw):
            self._data[field.key] = answer
            return
        try:
            self._data[field.key] = field.shape.complete(answer, path, self._pending)
        except Broken:
            self._data[field.key] = None

    async def _fill(self) -> None:
        """Fills the gaps, and the gaps in what they were filled with, until there are none."""
        while self._pending.gaps:
            gaps, self._pending.gaps = self._pending.gaps, []
            wanted: dict[Linked, dict[str, None]] = {}
            for gap in gaps:
                linked = gap.link.linked
                if gap.id not in self._known.setdefault(linked, {}):
                    wanted.setdefault(linked, {})[gap.id] = None
            await self._fetch(wanted)
            for number, gap in enumerate(gaps, 1):
                self._put(gap)
                if number % YIELD_OBJECTS == 0:
                    await asyncio.sleep(0)

    async def _fetch(self, wanted: Mapping[Linked, Mapping[str, None]]) -> None:
        batches = [
            (linked, ids)
            for linked, every in wanted.items()
            for ids in _batches(every, self._settings.link_ids_max)
        ]
        answers = await self._together([self._fetcher(linked, ids) for linked, ids in batches])
        for (linked, ids), answer in zip(batches, answers, strict=True):
            _link_calls.inc()
            _links.inc(len(ids))
            known = self._known[linked]
            for one in ids:
                known[one] = answer if isinstance(answer, Exception) else answer.get(one)

    def _fetcher(self, linked: Linked, ids: tuple[str, ...]) -> Callable[[], Awaitable[Any]]:
        async def fetch() -> Any:
            return await self._in_time(
                lambda: self._backend.many(linked.service, linked.entity, self._actor, ids)
            )

        return fetch

    def _put(self, gap: Gap) -> None:
        record = self._known[gap.link.linked][gap.id]
        shape = gap.link.shape
        if isinstance(record, Exception):
            self._pending.faults.append(Fault(record, gap.path, shape.node))
        elif record is not None:
            gap.target[gap.key] = shape.complete(record, gap.path, self._pending)

    async def _together(self, works: Sequence[Callable[[], Awaitable[T]]]) -> list[T | Exception]:
        """All of them, so many at once; what each gave, or failed with."""
        if len(works) == 1:
            return [await outcome(works[0]())]
        room = asyncio.Semaphore(self._settings.concurrent_calls_max)

        async def one(work: Callable[[], Awaitable[T]]) -> T | Exception:
            if room.locked():
                _held.inc()
            async with room:
                return await outcome(work())

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(work)) for work in works]
        return [task.result() for task in tasks]

    async def _in_time(self, start: Callable[[], Awaitable[T]]) -> T:
        """Raises Unavailable (`timeout`); what has not begun by then never does."""
        left = self._ends - asyncio.get_running_loop().time()
        if left <= 0:
            raise Unavailable("the operation took too long", code="timeout")
        return await within(left, start(), "the operation")


def _batches(every: Iterable[str], size: int) -> Iterator[tuple[str, ...]]:
    rest = iter(every)
    while batch := tuple(islice(rest, size)):
        yield batch
