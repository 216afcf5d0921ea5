"""The notes service in a database of its own, whose lists are followed."""

from collections.abc import AsyncIterator

import pytest

from tests.fakes.calls import Calls, served
from tests.fakes.following import Following, following
from tests.fakes.notes.service import NOTES
from tests.fakes.postgres import Postgres


@pytest.fixture
async def notes(postgres: Postgres) -> AsyncIterator[Calls]:
    async with served(postgres, NOTES) as calls:
        yield calls


@pytest.fixture
async def live(notes: Calls) -> AsyncIterator[Following]:
    async with following(notes) as made:
        yield made
