"""What the end-to-end tests share: a family for those that harm nothing, Chromium, a run's length.

They need a network namespace of their own with only loopback up (the Makefile starts them in one):
Chromium's WebRTC then has no other address, and no packet can leave the machine. `NEXUS_PROVE=1`
runs the long forms.
"""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.browser import BrowserContext, chromium
from tests.end_to_end.family import Family

PROVE = os.environ.get("NEXUS_PROVE") == "1"


def _only_loopback() -> bool:
    return {name for _, name in socket.if_nameindex()} <= {"lo"}


def pytest_collection_modifyitems() -> None:
    if not _only_loopback():
        pytest.exit("end-to-end tests run in a network namespace of their own: use `make test`", 2)


@pytest.fixture(scope="session")
def prove() -> bool:
    """Whether this is the long form."""
    return PROVE


@pytest.fixture(scope="session")
def slack() -> float:
    """What a limit in time is multiplied by. `make prove` holds the figures as they are claimed, on
    a machine that does nothing else; the short form finds what is broken on a busy one."""
    return 1.0 if PROVE else 2.5


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Family]:
    """A family with the demo stream, shared: a test that kills or restarts starts its own."""
    with Family(tmp_path_factory.mktemp("family"), demo=True) as running:
        yield running


@pytest.fixture(scope="session")
def quiet_family(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Family]:
    """A family without the demo, shared by tests that bring their own publishers."""
    with Family(tmp_path_factory.mktemp("quiet")) as running:
        yield running


@pytest.fixture
def browser() -> Iterator[BrowserContext]:
    """A Chromium that the probe may work in."""
    with chromium(probing=True) as context:
        yield context


PROBE = (Path(__file__).parent / "probe.js").read_text()
