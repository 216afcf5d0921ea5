"""A worker on loopback sockets, as the tests of edge have it, and its metrics as numbers."""

from tests.edge.conftest import (  # noqa: F401  fixtures and a hook, taken over
    pytest_asyncio_loop_factories,
    running,
    start,
)
