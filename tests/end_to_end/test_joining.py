"""Joining: how soon a viewer is connected and sees a picture, and what two thousand leave."""

import asyncio
import time
from pathlib import Path

import aiohttp
import pytest

from benchmarks import webrtc_measure
from benchmarks.progress import Progress
from benchmarks.target import running
from media._native import Swarm
from tests.end_to_end.browser import BrowserContext, open_page
from tests.end_to_end.conftest import PROBE
from tests.end_to_end.family import Family, wait_until
from tests.end_to_end.figures import percentile, say
from tests.end_to_end.publishers import ffmpeg_whip

HEADERS = {"Content-Type": "application/sdp"}


def test_first_picture_in_chromium(
    browser: BrowserContext,
    quiet_family: Family,
    tmp_path: Path,
    *,
    prove: bool,
    slack: float,
) -> None:
    """A 4 s GOP and a publisher that ignores PLI: p50 <= 400 ms, p95 <= 700 ms from POST."""
    times = 40 if prove else 16
    with ffmpeg_whip(
        f"{quiet_family.url}/whip/slow-keys", tmp_path / "f.log", size="1280x720", gop=120
    ):
        wait_until("it is live", lambda: quiet_family.live("slow-keys"), 15)
        wait_until(
            "a key frame has come",
            lambda: int(str(quiet_family.streams()["slow-keys"]["keyframe_age_ms"])) >= 0,
            10,
        )
        seen = open_page(browser, f"{quiet_family.url}/")
        seen.page.evaluate(PROBE)
        first, connected = [], []
        for turn in range(times):
            got = seen.page.evaluate(
                """async ([url, pause]) => {
                  await new Promise((r) => setTimeout(r, pause));
                  const v = await probe.whep(url);
                  const t = performance.now();
                  while (!v.times.frame && performance.now() - t < 5000)
                    await new Promise((r) => setTimeout(r, 10));
                  await fetch(v.location, { method: "DELETE" });
                  v.pc.close(); v.video.remove();
                  return v.times;
                }""",
                [f"{quiet_family.url}/whep/slow-keys", 137 * (turn % 29)],
            )
            assert got["frame"], "no picture within 5 s"
            first.append(got["frame"])
            connected.append(got["connected"])
        say(
            "POST to the first picture in Chromium, 4 s GOP, PLI ignored",
            joins=times,
            p50_ms=percentile(first, 0.5),
            p95_ms=percentile(first, 0.95),
            connected_p50_ms=percentile(connected, 0.5),
        )
        assert percentile(first, 0.5) <= 400 * slack
        assert percentile(first, 0.95) <= 700 * slack


async def _come_and_go(family: Family, swarm: Swarm, stream: str, count: int) -> None:
    """`count` viewers join, are connected, and leave by DELETE; 25 at a time."""
    async with aiohttp.ClientSession(family.url) as http:
        for _ in range(0, count, 25):
            there = []
            for _ in range(25):
                client, offer = swarm.offer_viewer(decrypt=False, feedback=False)
                async with http.post(f"/whep/{stream}", data=offer, headers=HEADERS) as answer:
                    body = await answer.text()
                    assert answer.status == 201, body
                    there.append((client, answer.headers["Location"]))
                swarm.answer(client, body)
            deadline = time.monotonic() + 10
            wanted = {client for client, _ in there}
            while True:
                up = {s["client"] for s in swarm.stats() if s["connected_us"] >= 0}
                if wanted <= up:
                    break
                assert time.monotonic() < deadline, f"{len(wanted - up)} of 25 not connected"
                await asyncio.sleep(0.02)
            for client, location in there:
                async with http.delete(location) as answer:
                    assert answer.status == 200
                swarm.close(client)


def _resident(family: Family, stream: str) -> int:
    wait_until("the viewers have gone", lambda: family.streams()[stream]["viewers_webrtc"] == 0, 15)
    return family.resident_kib("media") + family.resident_kib("edge")


def test_two_thousand_joins_leave_nothing(quiet_family: Family, tmp_path: Path) -> None:
    """Memory after 2,000 joins is within 2 % of what it was after 1,000; no descriptor is left."""
    family = quiet_family
    swarm = Swarm()
    try:
        with ffmpeg_whip(f"{family.url}/whip/busy-door", tmp_path / "f.log"):
            wait_until("it is live", lambda: family.live("busy-door"), 15)
            asyncio.run(_come_and_go(family, swarm, "busy-door", 25))
            before = family.descriptors("media") + family.descriptors("edge")
            asyncio.run(_come_and_go(family, swarm, "busy-door", 975))
            first = _resident(family, "busy-door")
            asyncio.run(_come_and_go(family, swarm, "busy-door", 1000))
            second = _resident(family, "busy-door")
            wait_until(
                "descriptors are back",
                lambda: family.descriptors("media") + family.descriptors("edge") <= before,
                20,
            )
            say("resident after joins", after_1000_kib=first, after_2000_kib=second)
            assert second <= first * 1.02
    finally:
        swarm.stop()


@pytest.mark.parametrize("viewers", [200])
def test_two_hundred_viewers_lose_nothing(
    viewers: int, quiet_family: Family, *, prove: bool, slack: float
) -> None:
    """One 720p30 stream to 200 viewers: nothing lost by us, joins p50 <= 20 ms, CPU printed."""
    node = running(quiet_family.url, run_dir=quiet_family.run_dir)
    load = webrtc_measure.Load(viewers=viewers, seconds=30 if prove else 10, joins=20, open_every=1)
    row = asyncio.run(webrtc_measure.fanout(node, load, Progress()))
    joins, crowd = asyncio.run(webrtc_measure.join(node, load, Progress()))
    say("200 viewers", **row.figures())
    say("joins, one after another", **joins.figures())
    say("joins, all at once", **crowd.figures())
    assert row.more["connected"] == viewers
    assert (row.lost, row.more["index_repeats"], row.more["decrypt_errors"]) == (0, 0, 0)
    assert joins.p50_ms is not None
    assert joins.p50_ms <= 20 * slack
