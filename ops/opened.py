"""Parts that open several things, and close them together: one `async with` for all of them.

A part subclasses `Opened` and opens into the stack what it owns. It is no registry and knows no
order but that in which things were opened; who restarts what is `ops/tasks.py`'s.
"""

from abc import ABC, abstractmethod
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self


class Opened(ABC):
    """`async with` it. Leaving closes what was opened, in the reverse order; so does an entering
    that fails half-way."""

    _stack: AsyncExitStack | None = None

    @abstractmethod
    async def _start(self, stack: AsyncExitStack) -> None:
        """Opens everything that the part owns into the stack."""

    async def __aenter__(self) -> Self:
        """Raises what `_start` raises."""
        async with AsyncExitStack() as stack:
            await self._start(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._stack is not None, "entered"
        await self._stack.aclose()
