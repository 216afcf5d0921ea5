"""The load generator's process: a swarm of WebRTC clients that does what it is told by its parent.

    python -m benchmarks.generator        (started by benchmarks/generator_process.py)

One JSON object a line on standard input is an order, one on standard output its outcome. Clients
are the native crate in its client role (`media._native.Swarm`), all on one thread; HTTP is aiohttp
on another. No packet passes through Python.

A generator that is too slow shows as loss: read `lost` first.
"""

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TextIO
from urllib.parse import urljoin

import aiohttp

from benchmarks.clip import make_clip, quiet_clip
from media._native import Swarm

PACE_MS: Final = 8
"""A picture's packets are spread over so long, as senders' pacers do."""
CONNECT_SECONDS_MAX: Final = 15.0
REPLY_SECONDS_MAX: Final = 30.0
RETRY_PAUSE_SECONDS: Final = 0.1
POLL_SECONDS: Final = 0.002
_SDP: Final = {"Content-Type": "application/sdp"}
_SUMMED: Final = (
    "packets",
    "bytes",
    "lost",
    "duplicates",
    "reordered",
    "decrypt_errors",
    "index_repeats",
    "frames",
    "rtx",
)

Order = dict[str, Any]
Outcome = dict[str, Any]
Doors = Sequence[tuple[str, Mapping[str, str]]]


class Generator:
    """The clients of one process. `orders` are its methods, by name."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self.http = http
        self.swarm = Swarm()
        self._viewers: dict[int, tuple[str, Mapping[str, str]]] = {}
        self.orders: dict[str, Callable[..., Awaitable[Outcome]]] = {
            "publish": self.publish,
            "join": self.join,
            "leave": self.leave,
            "count": self.count,
            "latency": self.latency,
        }

    async def publish(self, door: tuple[str, Mapping[str, str]], clip: str, stamp: bool) -> Outcome:
        """Publishes a clip until the end; returns when packets flow."""
        chosen = quiet_clip() if clip == "quiet" else make_clip()
        client, offer = self.swarm.offer_publisher(
            units=chosen.units, loop_ms=chosen.loop_ms, stamp=stamp, pace_ms=PACE_MS
        )
        await self._post(client, door, offer, retry_seconds=0)
        await self._wait(client, "packets", 1)
        return {"client": client}

    async def join(
        self,
        doors: Doors,
        parallel: int,
        open_every: int,
        feedback: bool,
        retry_seconds: float,
    ) -> Outcome:
        """One viewer a door, `parallel` at a time: the next comes when one is connected. One in
        `open_every` decrypts what it gets; the others count by headers.

        Returns connect_us, a list: from before the offer was made until DTLS was done.
        """
        turn = asyncio.Semaphore(parallel)

        async def one(number: int, door: tuple[str, Mapping[str, str]]) -> int:
            async with turn:
                deadline = time.monotonic() + retry_seconds
                while True:
                    client, offer = self.swarm.offer_viewer(
                        decrypt=number % open_every == 0, feedback=feedback
                    )
                    left = deadline - time.monotonic()
                    location = await self._post(client, door, offer, retry_seconds=left)
                    if location:
                        break
                    self.swarm.close(client)
                    await asyncio.sleep(RETRY_PAUSE_SECONDS)
                self._viewers[client] = (location, door[1])
                await self._wait(client, "connected_us", 0)
                return self.swarm.stats(client)[0]["connected_us"]

        return {"connect_us": await asyncio.gather(*itertools.starmap(one, enumerate(doors)))}

    async def leave(self) -> Outcome:
        """All viewers go, one after another, and say so by DELETE."""
        gone = list(self._viewers.items())
        self._viewers.clear()
        for client, (location, headers) in gone:
            async with self.http.delete(location, headers=headers):
                self.swarm.close(client)
        return {"left": len(gone)}

    async def count(self) -> Outcome:
        """What all present viewers have received until now, and by which port of the server."""
        rows = [row for row in self.swarm.stats() if row["client"] in self._viewers]
        ports: dict[int, int] = {}
        for row in rows:
            ports[row["server_port"]] = ports.get(row["server_port"], 0) + row["packets"]
        totals = {name: sum(row[name] for row in rows) for name in _SUMMED}
        connected = sum(row["connected_us"] >= 0 for row in rows)
        return {"at": time.monotonic(), "connected": connected, "ports": ports, **totals}

    async def latency(self, reset: bool) -> Outcome:
        """Histogram of stamped pictures: [microseconds at most, how many], ascending."""
        return {"counts": self.swarm.latency(reset=reset)}

    async def _post(
        self,
        client: int,
        door: tuple[str, Mapping[str, str]],
        offer: str,
        *,
        retry_seconds: float,
    ) -> str:
        """Signals one client; where its session is. Empty: refused, but there is time to try again.

        Raises LookupError.
        """
        url, headers = door
        async with self.http.post(url, data=offer.encode(), headers={**_SDP, **headers}) as answer:
            body = await answer.text()
            location = answer.headers.get("Location", "")
        if answer.status != 201:
            if retry_seconds > 0:
                return ""
            raise LookupError(f"{url}: {answer.status} {body[:300]}")
        self.swarm.answer(client, body)
        return urljoin(url, location)

    async def _wait(self, client: int, name: str, least: int) -> None:
        """Until a figure of the client is `least`. Raises TimeoutError."""
        deadline = time.monotonic() + CONNECT_SECONDS_MAX
        while self.swarm.stats(client)[0][name] < least:
            if time.monotonic() > deadline:
                raise TimeoutError(f"a client has no {name} after {CONNECT_SECONDS_MAX} s")
            await asyncio.sleep(POLL_SECONDS)


async def obey(generator: Generator, order: Order) -> Outcome:
    """Does one order; what went wrong is told as `{"fault": …}`."""
    name = order.pop("order")
    try:
        return await generator.orders[name](**order)
    except (LookupError, OSError, TimeoutError, ValueError, aiohttp.ClientError) as fault:
        return {"fault": f"{name}: {str(fault) or type(fault).__name__}"}


async def serve(orders: TextIO, outcomes: TextIO) -> None:
    """Until standard input ends."""
    timeout = aiohttp.ClientTimeout(total=REPLY_SECONDS_MAX)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as http:
        generator = Generator(http)
        try:
            while line := await asyncio.to_thread(orders.readline):
                outcome = await obey(generator, json.loads(line))
                outcomes.write(json.dumps(outcome) + "\n")
                outcomes.flush()
        finally:
            generator.swarm.stop()


if __name__ == "__main__":
    asyncio.run(serve(sys.stdin, sys.stdout))
