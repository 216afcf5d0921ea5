"""The notes service in a database of its own."""

from collections.abc import AsyncIterator

import pytest

from tests.fakes.calls import Calls, served
from tests.fakes.notes.service import NOTES
from tests.fakes.postgres import Postgres


@pytest.fixture
async def notes(postgres: Postgres) -> AsyncIterator[Calls]:
    async with served(postgres, NOTES) as calls:
        yield calls
