"""Who comes and goes at a node in a soak: publishers, viewers of both kinds, lists, nonsense.

Each actor is one coroutine that does one round after another until it is cancelled; `Tally` counts
what they did. They run on one event loop, with the native swarm for WebRTC.
"""

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

import aiohttp

from benchmarks.clip import make_clip
from media._native import Swarm
from tests.end_to_end.family import Family

SDP: Final = {"Content-Type": "application/sdp"}
JOIN_SECONDS: Final = 10.0
SHIFT_SECONDS: Final = 60.0
"""How long one swarm is used: it numbers 10,000 clients in its life."""
STREAMS: Final = ("one", "two")
Round = Callable[[], Awaitable[None]]


class Actors:
    """Everybody. `run` them, then read `tally`."""

    def __init__(self, family: Family, *, seed: int = 1) -> None:
        self._family = family
        self._chance = random.Random(seed)
        self._numbers = itertools.count(1)
        self._clip = make_clip(width=320, height=180, bit_rate=300_000)
        self._replaced: dict[str, int] = {}
        self._swarm: Swarm | None = None
        self._http: aiohttp.ClientSession | None = None
        self.tally: Counter[str] = Counter()

    @property
    def swarm(self) -> Swarm:
        assert self._swarm is not None
        return self._swarm

    @property
    def http(self) -> aiohttp.ClientSession:
        assert self._http is not None
        return self._http

    async def run(self, seconds: float) -> None:
        """All of them for so long, and now and then they all leave at once; nobody is left when it
        returns. Raises the first failure."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            await self._shift(min(left, SHIFT_SECONDS))

    async def _shift(self, seconds: float) -> None:
        self._replaced.clear()
        self._swarm = Swarm()
        try:
            async with aiohttp.ClientSession(self._family.url) as self._http:
                try:
                    async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
                        for stream in STREAMS:
                            group.create_task(self._again(lambda s=stream: self.publisher(s)))
                        for _ in range(8):
                            group.create_task(self._again(self.viewer))
                        for _ in range(4):
                            group.create_task(self._again(self.hls_player))
                        group.create_task(self._again(self.passing_stream))
                        group.create_task(self._again(self.listener))
                        group.create_task(self._again(self.listener))
                        group.create_task(self._again(self.nonsense))
                except TimeoutError:
                    pass
                await self._end_all()
        finally:
            self._swarm.stop()

    async def publisher(self, stream: str) -> None:
        """On air for a while; then the next takes over, or comes after a pause."""
        client, path = await self._publish(stream)
        await self._pause(1.0, 3.0)
        replaced = self._replaced.pop(stream, None)
        if replaced is not None:
            self.swarm.close(replaced)
        self.tally["publishers"] += 1
        way = self._chance.choice(("delete", "bye", "takeover"))
        if way == "delete":
            await self._delete(path)
        elif way == "takeover":
            # The next one replaces it, and it goes then.
            self._replaced[stream] = client
            return
        self.swarm.close(client)
        await self._pause(0.0, 0.5)

    async def viewer(self) -> None:
        """Joins, sees a picture, stays a moment, and leaves by DELETE or by a goodbye."""
        stream = self._chance.choice(STREAMS)
        number, offer = self.swarm.offer_viewer()
        try:
            path = await self._signal(number, f"/whep/{stream}", offer)
            if not path:
                await self._pause(0.1, 0.3)
                return
            self.tally["joins"] += 1
            if await self._sees(number):
                self.tally["joins that saw a picture"] += 1
            await self._pause(0.0, 0.5)
            if self._chance.random() < 0.5:
                await self._delete(path)
        finally:
            self.swarm.close(number)

    async def hls_player(self) -> None:
        """Plays some parts on a connection of its own, and goes at any moment."""
        stream = self._chance.choice(STREAMS)
        rendition = "c" if self._chance.random() < 0.1 else self._chance.choice("va")
        path, query = f"/hls/{stream}/{rendition}/live.m3u8", ""
        async with aiohttp.ClientSession(self._family.url) as http:
            for _ in range(self._chance.randrange(3, 12)):
                try:
                    async with asyncio.timeout(self._chance.uniform(0.5, 3.0)):
                        query = await self._hls(http, path, query)
                except TimeoutError:
                    self.tally["HLS players that left while they waited"] += 1
                    return
        self.tally["HLS players"] += 1

    async def passing_stream(self) -> None:
        """A stream with a name of its own, watched for a moment, never to come again."""
        name = f"passing-{next(self._numbers)}"
        client, path = await self._publish(name)
        try:
            number, offer = self.swarm.offer_viewer()
            try:
                if await self._signal(number, f"/whep/{name}", offer):
                    await self._sees(number)
                if await self._listed(f"/hls/{name}/v/live.m3u8"):
                    self.tally["passing streams with HLS"] += 1
            finally:
                self.swarm.close(number)
            await self._delete(path)
        finally:
            self.swarm.close(client)

    async def listener(self) -> None:
        """Server-sent events for a while."""
        async with self.http.get("/api/events", timeout=aiohttp.ClientTimeout(None)) as answer:
            end = asyncio.get_running_loop().time() + self._chance.uniform(0.5, 4.0)
            try:
                async with asyncio.timeout_at(end):
                    async for _ in answer.content:
                        pass
            except TimeoutError:
                self.tally["event clients"] += 1

    async def nonsense(self) -> None:
        """Requests that are refused, or never end."""
        for path, data in (
            ("/whip/x", b"no SDP"),
            ("/whip/x", b"v=0\r\n" + b"a=x\r\n" * 3_000),
            ("/whep/nobody", b"v=0\r\ns=-\r\nt=0 0\r\n"),
            ("/whip/%00", b"v=0"),
        ):
            async with self.http.post(path, data=data, headers=SDP) as answer:
                await answer.read()
                assert 400 <= answer.status < 500, (path, answer.status)
                self.tally["refused requests"] += 1
        loop = asyncio.get_running_loop()
        for head in (b"GET / HTTP/1.1\r\nHost", b"\x16\x03\x01\x00", b"GET  / HTTP/9\r\n\r\n", b""):
            transport, _ = await loop.create_connection(
                asyncio.Protocol, "127.0.0.1", self._family.port
            )
            try:
                transport.write(head)
                await asyncio.sleep(0.02)
            finally:
                transport.abort()
            self.tally["broken connections"] += 1
        await self._pause(0.0, 0.2)

    # -- details --------------------------------------------------------------------------

    async def _again(self, round_: Round) -> None:
        while True:
            await round_()

    async def _publish(self, stream: str) -> tuple[int, str]:
        number, offer = self.swarm.offer_publisher(
            units=self._clip.units, loop_ms=self._clip.loop_ms
        )
        path = await self._signal(number, f"/whip/{stream}", offer)
        assert path, "a publisher is always welcome"
        return number, path

    async def _signal(self, number: int, path: str, offer: str) -> str:
        """The session's path; empty when nobody publishes just now."""
        async with self.http.post(path, data=offer.encode(), headers=SDP) as answer:
            body = await answer.text()
            if answer.status in (404, 409, 406):
                return ""
            assert answer.status == 201, (path, answer.status, body)
            self.swarm.answer(number, body)
            return answer.headers["Location"]

    async def _sees(self, number: int) -> bool:
        """Whether a picture comes in time; a stream may just be between two publishers."""
        end = asyncio.get_running_loop().time() + JOIN_SECONDS
        while asyncio.get_running_loop().time() < end:
            if any(row["frames"] > 0 for row in self.swarm.stats(number)):
                return True
            await asyncio.sleep(0.02)
        return False

    async def _listed(self, path: str) -> bool:
        """Whether a playlist comes in time: the packager needs a key frame first."""
        for _ in range(40):
            async with self.http.get(path) as answer:
                await answer.read()
                if answer.status == 200:
                    return True
            await asyncio.sleep(0.1)
        return False

    async def _hls(self, http: aiohttp.ClientSession, path: str, query: str) -> str:
        """Loads a playlist and its newest part; the query of the playlist with the next one."""
        async with http.get(path + query) as answer:
            text = await answer.text()
            self.tally[f"playlists {answer.status}"] += 1
            if answer.status != 200:
                await asyncio.sleep(0.2)
                return ""
        lines = text.splitlines()
        msn = part = 0
        newest = ""
        for line in lines:
            if line.startswith("#EXT-X-MEDIA-SEQUENCE:"):
                msn = int(line.partition(":")[2])
            elif line.startswith("#EXT-X-PART:"):
                part, newest = part + 1, line
            elif line.startswith("#EXTINF:"):
                msn, part = msn + 1, 0
        if newest and "GAP=YES" not in newest:
            uri = newest.partition('URI="')[2].partition('"')[0]
            async with http.get(f"{path.rpartition('/')[0]}/{uri}") as answer:
                await answer.read()
                self.tally[f"parts {answer.status}"] += 1
        return f"?_HLS_msn={msn}&_HLS_part={part}"

    async def _delete(self, path: str) -> None:
        async with self.http.delete(path) as answer:
            await answer.read()
            assert answer.status in (200, 404), (path, answer.status)

    async def _end_all(self) -> None:
        """Every session that is left is ended by its client."""
        for row in self.swarm.stats():
            self.swarm.close(row["client"])

    async def _pause(self, least: float, most: float) -> None:
        await asyncio.sleep(self._chance.uniform(least, most))
