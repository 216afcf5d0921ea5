"""The sender's schema in a database of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.courier import Life, Town, settle
from tests.fakes.postgres import Postgres


@pytest.fixture
async def life(postgres: Postgres, tmp_path: Path) -> AsyncIterator[Life]:
    """Connections over the embedded bus; loops start when the test says so."""
    town = await settle(Town(postgres.url, str(tmp_path)), postgres)
    async with town.life() as made:
        yield made
