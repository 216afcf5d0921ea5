"""Both buses: a test that takes `town` runs once over each."""

from collections.abc import AsyncIterator

import pytest

from tests.fakes.courier import Life, Town, postgres, settled
from tests.fakes.kafka import Kafka, kafka
from tests.fakes.postgres import Postgres

__all__ = ["kafka", "postgres", "settled"]


@pytest.fixture(params=["postgres", "kafka"])
def town(request: pytest.FixtureRequest, postgres: Postgres) -> Town:
    """The two services, their tables made, over one of the buses."""
    if request.param == "postgres":
        return Town(postgres.url)
    broker: Kafka = request.getfixturevalue("kafka")
    return Town(postgres.url, region=broker.region(), kafka=broker.settings)


@pytest.fixture
def alone(postgres: Postgres) -> Town:
    """The two services over the embedded bus, for what has nothing to do with the bus."""
    return Town(postgres.url)


@pytest.fixture
async def life(town: Town) -> AsyncIterator[Life]:
    """A process's connections; loops start when the test says so."""
    async with town.life() as made:
        yield made
