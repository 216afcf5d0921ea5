"""A server under load, whoever made it: where to publish and play, and which processes it has."""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from benchmarks import server
from benchmarks.process import family

RUN_DIRECTORIES = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Door:
    """Where one client posts its offer, and with what headers."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


class Target(Protocol):
    """What a load generator needs to know of a running server."""

    @property
    def who(self) -> str:
        """The name that its rows get."""

    def publish(self, stream: str) -> Door:
        """WHIP."""

    def play(self, stream: str, viewer: int) -> Door:
        """WHEP or what the server has instead; `viewer` counts up, for those that need names."""

    def pids(self) -> list[int]:
        """All processes that serve. Raises LookupError."""

    def media_pids(self) -> list[int]:
        """Those of them that carry packets. Raises LookupError."""


Starter = Callable[[], contextlib.AbstractAsyncContextManager[Target]]


@dataclass(frozen=True, slots=True)
class Nexus:
    """A node of ours."""

    url: str
    run_dir: Path
    key: str = ""
    who: str = "nexus"

    def publish(self, stream: str) -> Door:
        return Door(f"{self.url}/whip/{stream}", self._headers())

    def play(self, stream: str, viewer: int) -> Door:
        del viewer
        return Door(f"{self.url}/whep/{stream}", self._headers())

    def pids(self) -> list[int]:
        known = server.children(self.run_dir)
        # A demo in the family is a publisher like any other, not the server.
        demos = [pid for name, pid in known.items() if name.startswith("demo")]
        strangers = {pid for demo in demos for pid in family(demo)}
        return [pid for pid in family(server.supervisor(self.run_dir)) if pid not in strangers]

    def media_pids(self) -> list[int]:
        known = server.children(self.run_dir)
        return [pid for name, pid in known.items() if name.startswith("media")]

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}


def running(url: str, *, key: str = "", who: str = "nexus", run_dir: Path | None = None) -> Nexus:
    """The node that serves `url` on this machine. Raises LookupError when its processes are not
    found: its run directory is elsewhere, then give it."""
    port = urlsplit(url).port or 80
    pattern = f"nexus-*-{port}/supervisor.json"
    for facts in [run_dir / "supervisor.json"] if run_dir else RUN_DIRECTORIES.glob(pattern):
        if facts.is_file():
            return Nexus(url.rstrip("/"), facts.parent, key, who)
    raise LookupError(f"no node found that serves {url} here: give --run-dir")


@contextlib.asynccontextmanager
async def own(flags: Mapping[str, str], *, who: str = "nexus") -> AsyncIterator[Target]:
    """A node that is started for it. Raises LookupError. **Owns** the node."""
    async with server.started(flags) as node:
        yield Nexus(node.url, node.run_dir, who=who)
