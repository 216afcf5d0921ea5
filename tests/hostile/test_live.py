"""A running server under mutated datagrams and offers, from a session of its own and from
strangers: everybody else notices nothing, and afterwards it is as it was."""

import asyncio
import http.client
import random
import re
import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from media._native import Swarm
from media.hls.track import HOLE_MS
from tests.conformance import hls_text
from tests.end_to_end.family import Family, fetch, wait_until
from tests.end_to_end.figures import say
from tests.fakes.clip import small_clip
from tests.hostile.hostile_publisher import HostilePublisher
from tests.hostile.mutations import captured, mutate, mutate_text

OFFERS = Path(__file__).resolve().parents[2] / "media/native/tests/offers"
STRANGERS = 8
BATCH = 50
BATCH_SECONDS = 0.005
"""Ten thousand datagrams a second: more than any publisher, less than a socket buffer loses."""
GROWTH_KIB_MAX = 24 * 1024
"""What the media process may have grown by: buffers that were needed once, and fragmentation."""


def _metric(family: Family, name: str) -> float:
    status, body = fetch(f"{family.url}/metrics")
    assert status == 200
    rows = re.findall(rf"^{name}(?:_total)?(?:{{[^}}]*}})? (\S+)$", body.decode(), re.MULTILINE)
    return sum(float(value) for value in rows)


def _post(family: Family, path: str, offer: str) -> str:
    request = urllib.request.Request(
        f"{family.url}{path}", data=offer.encode(), headers={"Content-Type": "application/sdp"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(answer.read().decode())


@contextmanager
def _good_stream(family: Family, stream: str) -> Iterator[tuple[Swarm, int]]:
    """A sound publisher with one viewer; the viewer's number."""
    swarm = Swarm()
    try:
        clip = small_clip()
        publisher, offer = swarm.offer_publisher(units=clip.units, loop_ms=clip.loop_ms)
        swarm.answer(publisher, _post(family, f"/whip/{stream}", offer))
        wait_until(f"{stream} is live", lambda: family.live(stream), 15)
        viewer, offer = swarm.offer_viewer()
        swarm.answer(viewer, _post(family, f"/whep/{stream}", offer))
        wait_until(f"{stream} plays", lambda: _stats(swarm, viewer)["frames"] > 5, 15)
        yield swarm, viewer
    finally:
        swarm.stop()


def _stats(swarm: Swarm, client: int) -> dict[str, int]:
    return next(row for row in swarm.stats() if row["client"] == client)


def _hls_faults(family: Family, stream: str) -> list[str]:
    """What is wrong with the stream's playlist of pictures; nothing where there is none."""
    status, body = fetch(f"{family.url}/hls/{stream}/v/live.m3u8")
    if status != 200:
        said = str(family.streams()[stream]["hls_reason"])
        return [] if said or status in (404, 503) else [f"status {status}"]
    faults = hls_text.faults(hls_text.read(body.decode()))
    return [fault for fault in faults if not _is_of_the_publisher(fault)]


def _is_of_the_publisher(fault: str) -> bool:
    """Frames that lie far apart make parts as long as they are, those that come at times of their
    own make short ones (`media/hls/track.py` says why)."""
    part = re.search(r"part \d+ lasts ([0-9.]+), (over|under)", fault)
    return part is not None and float(part[1]) <= HOLE_MS / 1000 + 0.5


async def _datagrams(family: Family, count: int, seed: int) -> HostilePublisher:
    """`count` datagrams: of a session (encrypted again, and raw) and of strangers."""
    chance, everything = random.Random(seed), captured()
    strangers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(STRANGERS)]
    for stranger in strangers:
        stranger.settimeout(0)
        stranger.bind(("127.0.0.1", 0))
    try:
        async with HostilePublisher(f"{family.url}/whip/bad") as bad:
            await bad.connected()
            for n in range(count):
                match chance.randrange(5):
                    case 0:
                        await bad.send_clear(bad.nonsense(chance))
                    case 1:
                        data = mutate(chance, chance.choice(bad.seeds), bad.seeds)
                        await bad.send_clear(bad.numbered(data))
                    case 2:
                        bad.send_raw(mutate(chance, chance.choice(everything), everything))
                    case _:
                        data = mutate(chance, chance.choice(everything), everything)
                        chance.choice(strangers).sendto(data, ("127.0.0.1", family.udp_port))
                if n % BATCH == 0:
                    await asyncio.sleep(BATCH_SECONDS)
            faults = await asyncio.to_thread(_hls_faults, family, "bad")
            assert not faults, faults
        for stranger in strangers:
            with pytest.raises(BlockingIOError):
                stranger.recv(2_048)
    finally:
        for stranger in strangers:
            stranger.close()
    return bad


def _offers(family: Family, count: int, seed: int) -> dict[int, int]:
    """Mutated bodies to WHIP and WHEP; how often each status came."""
    chance = random.Random(seed)
    texts = [path.read_text() for path in sorted(OFFERS.iterdir())]
    statuses: dict[int, int] = {}
    connection = http.client.HTTPConnection("127.0.0.1", family.port, timeout=10)
    for _ in range(count):
        body = mutate_text(chance, chance.choice(texts), texts)
        path = chance.choice(("/whip/offered", "/whep/good", "/whep/bad"))
        connection.request("POST", path, body, {"Content-Type": "application/sdp"})
        answer = connection.getresponse()
        answer.read()
        statuses[answer.status] = statuses.get(answer.status, 0) + 1
        assert answer.status < 500 or answer.status == 503, (answer.status, body)
    connection.close()
    return statuses


def _state(family: Family) -> tuple[int, int, int]:
    return (
        family.descriptors("media"),
        int(_metric(family, "nexus_webrtc_sessions")),
        family.resident_kib("media"),
    )


def test_a_hostile_session_and_strangers(tmp_path: Path, prove: bool, seed: int) -> None:
    datagrams, offers = (110_000, 5_000) if prove else (4_000, 150)
    settings = {
        "NEXUS_WEBRTC_HANDSHAKE_MS": "1500",
        "NEXUS_WEBRTC_WORKERS": "1",
        "NEXUS_HLS_LINGER_SECONDS": "1",
    }
    with Family(tmp_path, **settings) as family:
        pids = family.pids()
        with _good_stream(family, "good") as (swarm, viewer):
            # once small, so that what is made only once is there
            asyncio.run(_datagrams(family, datagrams // 20, seed + 1))
            wait_until("one stream", lambda: set(family.streams()) == {"good"}, 20)
            wait_until("two sessions", lambda: _metric(family, "nexus_webrtc_sessions") == 2, 20)
            before, lost = _state(family), _stats(swarm, viewer)["lost"]
            start, packets = time.monotonic(), _stats(swarm, viewer)["packets"]
            bad = asyncio.run(_datagrams(family, datagrams, seed))
            seconds = time.monotonic() - start
            statuses = _offers(family, offers, seed)
            wait_until("two sessions", lambda: _metric(family, "nexus_webrtc_sessions") == 2, 20)
            watched = _stats(swarm, viewer)
            assert watched["lost"] == lost, "a viewer of another stream missed packets"
            assert watched["packets"] - packets > 50 * seconds
            assert watched["decrypt_errors"] == 0
            assert not _hls_faults(family, "good")
        with _good_stream(family, "fresh") as (fresh, player):
            assert _stats(fresh, player)["lost"] == 0
            assert _metric(family, "nexus_webrtc_panics") == 0
            assert _metric(family, "nexus_media_faults") == 0
            wait_until("two sessions", lambda: _metric(family, "nexus_webrtc_sessions") == 2, 30)
            wait_until("one stream", lambda: set(family.streams()) == {"fresh"}, 20)
            after = _state(family)
        assert family.pids() == pids, "a process was started anew"
        say(
            "hostile",
            datagrams=datagrams,
            encrypted=bad.encrypted,
            raw=bad.raw,
            offers=statuses,
            descriptors=f"{before[0]} to {after[0]}",
            sessions=f"{before[1]} to {after[1]}",
            kib=f"{before[2]} to {after[2]}",
        )
        assert after[0] <= before[0] + 1
        assert after[2] - before[2] < GROWTH_KIB_MAX
