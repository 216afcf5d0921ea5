"""Two regions that serve notes."""

from collections.abc import AsyncIterator

import pytest

from tests.fakes.postgres import PostgresServer
from tests.fakes.regions import World, world


@pytest.fixture
async def two(postgres_server: PostgresServer) -> AsyncIterator[World]:
    """eu1, which keeps the directory, and us1."""
    async with world(postgres_server) as made:
        yield made
