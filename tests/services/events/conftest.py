"""The two services in a database of their own."""

from collections.abc import AsyncIterator

import pytest

from tests.fakes.courier import Life, Town, postgres, settled
from tests.fakes.postgres import Postgres

__all__ = ["postgres", "settled"]


@pytest.fixture
async def life(postgres: Postgres) -> AsyncIterator[Life]:
    """Connections over the embedded bus; loops start when the test says so."""
    async with Town(postgres.url).life() as made:
        yield made
