"""A gateway on loopback, and servers behind it that do what they are told."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.fault_upstream import FaultUpstream
from tests.fakes.small_gateway import SmallGateway

Made = Callable[..., Any]


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Made]:
    """Makes gateways; all are stopped at the end."""
    async with AsyncExitStack() as stack:

        async def make(**options: Any) -> SmallGateway:
            return await stack.enter_async_context(SmallGateway(tmp_path, **options))

        yield make


@pytest.fixture
async def gateway(made: Made) -> SmallGateway:
    """One with the defaults."""
    small: SmallGateway = await made()
    return small


@pytest.fixture
async def upstream() -> AsyncIterator[FaultUpstream]:
    async with FaultUpstream() as server:
        yield server


@pytest.fixture
async def second() -> AsyncIterator[FaultUpstream]:
    async with FaultUpstream("second") as server:
        yield server
