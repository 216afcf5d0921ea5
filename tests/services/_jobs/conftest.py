"""The world in which these tests run their errands."""

from collections.abc import AsyncIterator

import pytest

from tests.fakes.postgres import Postgres
from tests.services._jobs.errands import World, world


@pytest.fixture
async def errands(postgres: Postgres) -> AsyncIterator[World]:
    """A fresh database with the service's queue."""
    async with world(postgres) as made:
        yield made
