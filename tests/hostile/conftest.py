"""The hostile campaigns run where the end-to-end tests do: with loopback alone, short or long."""

import pytest

from tests.end_to_end.conftest import PROVE, pytest_collection_modifyitems

__all__ = ["pytest_collection_modifyitems"]


@pytest.fixture(scope="session")
def prove() -> bool:
    """Whether this is the long form."""
    return PROVE


@pytest.fixture(scope="session")
def seed() -> int:
    """Where all random numbers of a run begin."""
    return 20_240_601
