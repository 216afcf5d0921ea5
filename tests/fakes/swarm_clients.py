"""WHIP and WHEP clients on the native swarm, signalled by blocking requests: for tests of a family.

A clip is made once a process; a client is its number in the swarm and its session's path.
"""

import urllib.error
import urllib.request
from types import TracebackType
from typing import NamedTuple, Self

from benchmarks.clip import make_clip
from media._native import Swarm

SECONDS = 10.0


class Client(NamedTuple):
    """One that has been answered."""

    number: int
    path: str


class SwarmClients:
    """Owns its swarm, from entering to leaving."""

    def __init__(self, url: str, *, key: str = "") -> None:
        self.url = url
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.swarm = Swarm()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.swarm.stop()

    def publish(self, stream: str) -> Client:
        """A publisher of a small clip with a key frame each second. Raises OSError."""
        clip = make_clip(width=320, height=180, bit_rate=300_000)
        number, offer = self.swarm.offer_publisher(units=clip.units, loop_ms=clip.loop_ms)
        return self._join(number, f"/whip/{stream}", offer)

    def play(self, stream: str) -> Client:
        """A viewer. Raises OSError."""
        number, offer = self.swarm.offer_viewer()
        return self._join(number, f"/whep/{stream}", offer)

    def end(self, client: Client) -> None:
        """DELETE of the session; the client goes with it. Raises OSError."""
        request = urllib.request.Request(
            self.url + client.path, method="DELETE", headers=self._headers
        )
        with urllib.request.urlopen(request, timeout=SECONDS):
            self.swarm.close(client.number)

    def pictures(self, client: Client) -> int:
        """Pictures that a viewer has got."""
        return sum(row["frames"] for row in self.swarm.stats(client.number))

    def _join(self, number: int, path: str, offer: str) -> Client:
        headers = {"Content-Type": "application/sdp", **self._headers}
        request = urllib.request.Request(self.url + path, data=offer.encode(), headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                self.swarm.answer(number, answer.read().decode())
                return Client(number, answer.headers["Location"])
        except urllib.error.URLError:
            self.swarm.close(number)
            raise
