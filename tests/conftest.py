"""What all tests share: none of the developer's settings, random input that repeats."""

import os

from hypothesis import settings

from tests.fakes.postgres import postgres, postgres_server

__all__ = ["postgres", "postgres_server"]

KEPT = (
    "NEXUS_PROVE",
    "NEXUS_SOAK_SECONDS",
    "NEXUS_BUILD_CACHE",
    "NEXUS_PEER_MEDIAMTX",
    "NEXUS_PEER_LIVEKIT",
)

for name in [name for name in os.environ if name.startswith("NEXUS_") and name not in KEPT]:
    del os.environ[name]

# The same examples each run and on each machine; no deadline, for a busy machine is not a fault.
settings.register_profile("house", derandomize=True, deadline=None, database=None)
settings.load_profile("house")
