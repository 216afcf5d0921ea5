"""Both buses: a test that takes `town` runs once over each."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.courier import Life, Town, settle
from tests.fakes.kafka import Kafka, kafka
from tests.fakes.postgres import Postgres

__all__ = ["kafka"]


@pytest.fixture(params=["postgres", "kafka"])
async def town(request: pytest.FixtureRequest, postgres: Postgres, tmp_path: Path) -> Town:
    """The two services, their schemas made, over one of the buses."""
    if request.param == "postgres":
        return await settle(Town(postgres.url, str(tmp_path)), postgres)
    broker: Kafka = request.getfixturevalue("kafka")
    town = Town(postgres.url, str(tmp_path), region=broker.region(), kafka=broker.servers)
    return await settle(town, postgres)


@pytest.fixture
async def alone(postgres: Postgres, tmp_path: Path) -> Town:
    """The two services over the embedded bus, for what has nothing to do with the bus."""
    return await settle(Town(postgres.url, str(tmp_path)), postgres)


@pytest.fixture
async def life(town: Town) -> AsyncIterator[Life]:
    """A process's connections; loops start when the test says so."""
    async with town.life() as made:
        yield made
