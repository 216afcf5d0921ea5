"""A small WebRTC load client: one publisher, many viewers, on one machine with the server.

Clients are the native crate in its client role (`media._native.Swarm`), all on one thread; HTTP is
aiohttp. Viewers join one after another, as a crowd does not; then packets and the media process's
CPU time are counted over some seconds. It measures the server, so a client that is too slow shows
as loss: read `lost` first.
"""

import argparse
import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp

from benchmarks import server
from benchmarks.clip import make_clip
from benchmarks.process import cpu_seconds, find_media, rss_kib
from benchmarks.progress import Progress
from benchmarks.results import Figure, Row, percentile
from media._native import Swarm

LIVE_SECONDS_MAX: Final = 10.0
CONNECT_SECONDS_MAX: Final = 10.0
SETTLE_SECONDS: Final = 2.0
_PAUSE_SECONDS: Final = 0.05
_HEADERS: Final = {"Content-Type": "application/sdp"}

Stats = dict[str, int]
Measured = dict[str, Figure]


@dataclass(frozen=True, slots=True)
class Usage:
    """What the media process has used at one moment, and what clients had received."""

    at: float
    cpu_seconds: float
    packets: int
    bytes: int


async def run_load(
    *,
    url: str,
    stream: str,
    viewers: int,
    seconds: float,
    media_pid: int = 0,
    publish: bool = True,
    decrypt: bool = True,
    key: str = "",
) -> Measured:
    """Publishes, joins, counts; the row of the table. Raises LookupError, TimeoutError."""
    pid = media_pid or find_media(url)
    swarm = Swarm()
    headers = {**_HEADERS, **({"Authorization": f"Bearer {key}"} if key else {})}
    sessions: list[str] = []
    try:
        async with aiohttp.ClientSession(url, headers=headers) as http:
            if publish:
                clip = make_clip()
                client, offer = swarm.offer_publisher(units=clip.units, loop_ms=clip.loop_ms)
                sessions.append(await _post(http, swarm, client, f"/whip/{stream}", offer))
            await _until_live(http, stream)
            rss_before = rss_kib(pid)
            joined = []
            for _ in range(viewers):
                client, offer = swarm.offer_viewer(decrypt=decrypt)
                sessions.append(await _post(http, swarm, client, f"/whep/{stream}", offer))
                joined.append(client)
            await _until_connected(swarm, joined)
            await asyncio.sleep(SETTLE_SECONDS)
            before = _usage(swarm, joined, pid)
            await asyncio.sleep(seconds)
            after = _usage(swarm, joined, pid)
            rows = _of(swarm, joined)
            row = _row(rows, before, after)
            row["rss_kib_per_client"] = round((rss_kib(pid) - rss_before) / max(viewers, 1), 1)
            row["rss_kib"] = rss_kib(pid)
            for path in sessions:
                async with http.delete(path):
                    pass
            return row
    finally:
        swarm.stop()


def _row(rows: Sequence[Stats], before: Usage, after: Usage) -> Measured:
    seconds = after.at - before.at
    packets = after.packets - before.packets
    cpu = after.cpu_seconds - before.cpu_seconds
    connect = [s["connected_us"] / 1000 for s in rows if s["connected_us"] >= 0]
    first = [s["first_packet_us"] / 1000 for s in rows if s["first_packet_us"] >= 0]
    total = {
        name: sum(s[name] for s in rows)
        for name in ("lost", "duplicates", "index_repeats", "decrypt_errors", "rtx", "reordered")
    }
    return {
        "viewers": len(rows),
        "connected": len(connect),
        "connect_p50_ms": percentile(connect, 0.5),
        "connect_p95_ms": percentile(connect, 0.95),
        "first_packet_p50_ms": percentile(first, 0.5),
        "packets_per_second": round(packets / seconds),
        "megabits_per_second": round((after.bytes - before.bytes) * 8 / seconds / 1e6, 1),
        **total,
        "cpu_us_per_packet": round(cpu * 1e6 / packets, 2) if packets else None,
        "media_cpu_percent": round(cpu / seconds * 100, 1),
    }


async def _post(
    http: aiohttp.ClientSession, swarm: Swarm, client: int, path: str, offer: str
) -> str:
    """Signals one client; the path of its session."""
    async with http.post(path, data=offer.encode()) as answer:
        body = await answer.text()
        if answer.status != 201:
            raise LookupError(f"{path}: {answer.status} {body}")
        swarm.answer(client, body)
        return answer.headers["Location"]


async def _until_live(http: aiohttp.ClientSession, stream: str) -> None:
    """Until the stream has a key frame, so that viewers find a group of pictures."""
    async with asyncio.timeout(LIVE_SECONDS_MAX):
        while True:
            async with http.get(f"/api/v1/streams/{stream}") as answer:
                known = await answer.json() if answer.status == 200 else {}
            if known.get("state") == "live" and known.get("keyframe_age_ms", -1) >= 0:
                return
            await asyncio.sleep(_PAUSE_SECONDS)


async def _until_connected(swarm: Swarm, clients: Sequence[int]) -> None:
    """Until all are, or for as long as is reasonable: the row tells how many were."""
    deadline = time.monotonic() + CONNECT_SECONDS_MAX
    while time.monotonic() < deadline:
        if all(s["connected_us"] >= 0 for s in _of(swarm, clients)):
            return
        await asyncio.sleep(_PAUSE_SECONDS)


def _of(swarm: Swarm, clients: Sequence[int]) -> list[Stats]:
    wanted = set(clients)
    return [s for s in swarm.stats() if s["client"] in wanted]


def _usage(swarm: Swarm, clients: Sequence[int], pid: int) -> Usage:
    rows = _of(swarm, clients)
    packets, size = sum(s["packets"] for s in rows), sum(s["bytes"] for s in rows)
    return Usage(time.monotonic(), cpu_seconds(pid), packets, size)


def _rows(measured: Measured, who: str, note: str) -> list[Row]:
    number = {name: value for name, value in measured.items() if isinstance(value, int | float)}
    clients = int(number["viewers"])
    fanout = Row(
        bench="webrtc.fanout",
        who=who,
        clients=clients,
        unit="packet",
        cpu_us=number.get("cpu_us_per_packet"),
        rss_kib_per_client=number["rss_kib_per_client"],
        lost=int(number["lost"]),
        note=note,
    )
    join = Row(
        bench="webrtc.join",
        who=who,
        clients=clients,
        unit="join",
        p50_ms=number.get("connect_p50_ms"),
        p95_ms=number.get("connect_p95_ms"),
        note=note,
    )
    return [fanout, join]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `nexus bench webrtc`."""
    parser.add_argument("--stream", default="load")
    parser.add_argument("--viewers", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument(
        "--publish",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="or watch what is there",
    )
    parser.add_argument(
        "--decrypt", action=argparse.BooleanOptionalAction, default=True, help="or count by headers"
    )


async def run(chosen: argparse.Namespace, progress: Progress) -> list[Row]:
    """One row a measurement and repeat. Raises LookupError, OSError, TimeoutError."""
    rows: list[Row] = []
    progress.expect(chosen.repeat)
    for turn in range(chosen.repeat):
        progress.say(f"{chosen.viewers} viewers, {turn + 1} of {chosen.repeat}")
        async with contextlib.AsyncExitStack() as stack:
            if chosen.url:
                url, pid = chosen.url, find_media(chosen.url)
            else:
                node = await stack.enter_async_context(server.started(chosen.flags))
                url, pid = node.url, node.media_pid
            measured = await run_load(
                url=url,
                stream=chosen.stream,
                viewers=chosen.viewers,
                seconds=chosen.seconds,
                media_pid=pid,
                publish=chosen.publish,
                decrypt=chosen.decrypt,
                key=chosen.key,
            )
        rows += _rows(measured, chosen.who, chosen.note)
        progress.advance()
    return rows
