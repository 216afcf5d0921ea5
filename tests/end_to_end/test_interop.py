"""Senders and players that we did not write: every sender's stream decodes in every player."""

import asyncio
import io
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import aioice.ice
import av
import pytest
from aiortc import RTCPeerConnection, RTCSessionDescription

from tests.end_to_end.browser import chromium, open_page
from tests.end_to_end.conftest import PROBE
from tests.end_to_end.family import Family, wait_until
from tests.end_to_end.figures import say
from tests.end_to_end.publishers import FFMPEG, Command, ffmpeg_whip, werift

SENDERS = ("chromium", "ffmpeg", "aiortc", "werift")


@contextmanager
def _chromium_sender(url: str) -> Iterator[None]:
    with chromium() as context:
        seen = open_page(context, url.rsplit("/whip/", 1)[0] + "/")
        seen.page.evaluate(PROBE)
        seen.page.evaluate(
            f"probe.whip('{url}', probe.camera()).then(w => {{ window.sender = w }})"
        )
        yield
        seen.page.evaluate(
            "fetch(sender.location, {method: 'DELETE'}).then(() => sender.pc.close())"
        )


@contextmanager
def _sender(kind: str, family: Family, stream: str, directory: Path) -> Iterator[None]:
    url = f"{family.url}/whip/{stream}"
    if kind == "chromium":
        with _chromium_sender(url):
            yield
        return
    if kind == "ffmpeg":
        command = ffmpeg_whip(url, directory / "ffmpeg.log")
    elif kind == "werift":
        command = werift("publish", url, directory / "werift.log", FFMPEG, "60")
    else:
        command = Command(
            [sys.executable, "-m", "edge.main", "demo", "--url", family.url, "--stream", stream],
            directory / "demo.log",
        )
    with command:
        yield


async def _aiortc_frames(url: str, want: int) -> tuple[int, int]:
    """Decoded pictures and sound frames that an aiortc player gets, up to `want` pictures."""
    player = RTCPeerConnection()
    counts = {"video": 0, "audio": 0}
    enough = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    async def pump(track: object) -> None:
        while True:
            await track.recv()  # type: ignore[attr-defined]
            counts[track.kind] += 1  # type: ignore[attr-defined]
            if counts["video"] >= want and counts["audio"] >= want:
                enough.set()

    player.on("track", lambda track: tasks.append(asyncio.ensure_future(pump(track))))
    player.addTransceiver("audio", direction="recvonly")
    player.addTransceiver("video", direction="recvonly")
    await player.setLocalDescription(await player.createOffer())
    headers = {"Content-Type": "application/sdp"}
    async with aiohttp.ClientSession() as session:
        async with session.post(url, data=player.localDescription.sdp, headers=headers) as answer:
            body = await answer.text()
            assert answer.status == 201, body
        await player.setRemoteDescription(RTCSessionDescription(body, "answer"))
        try:
            await asyncio.wait_for(enough.wait(), 15)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await player.close()
    return counts["video"], counts["audio"]


def _decoded(data: bytes) -> tuple[int, int]:
    """Pictures in an Annex B stream, and packets that do not decode."""
    pictures = errors = 0
    with av.open(io.BytesIO(data), format="h264") as container:
        for packet in container.demux(video=0):
            try:
                pictures += len(packet.decode())
            except av.error.InvalidDataError:
                errors += 1
    return pictures, errors


@pytest.mark.parametrize("sender", SENDERS)
def test_every_player_decodes_it(
    sender: str, quiet_family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chromium by WHEP and hls.js, aiortc and werift by WHEP, ffmpeg from the HLS playlist."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda **_: ["127.0.0.1"])
    family, stream = quiet_family, f"from-{sender}"
    with _sender(sender, family, stream, tmp_path):
        wait_until(f"{sender} is live", lambda: family.live(stream), 20)
        wait_until("HLS has begun", lambda: family.streams()[stream]["hls"], 20)
        with ThreadPoolExecutor(1) as aside:  # the browser's driver has a loop in this thread
            playing = aside.submit(
                lambda: asyncio.run(_aiortc_frames(f"{family.url}/whep/{stream}", 60))
            )
            pictures, sounds = playing.result()
        say(f"{sender} to aiortc", pictures=pictures, sounds=sounds)
        with werift(
            "play",
            f"{family.url}/whep/{stream}",
            tmp_path / "play.log",
            str(tmp_path / "got.h264"),
            "4",
        ) as player:
            wait_until("werift has played", lambda: not player.running(), 20)
        counts = json.loads(player.log().strip().splitlines()[-1])
        decoded, errors = _decoded((tmp_path / "got.h264").read_bytes())
        say(f"{sender} to werift", decoded=decoded, errors=errors, **counts)
        assert counts["state"] == "connected"
        assert decoded >= 60
        assert errors <= 1  # where the recording begins
        assert counts["audio"] >= 100
        with Command(
            [
                FFMPEG,
                "-hide_banner",
                "-i",
                f"{family.url}/hls/{stream}/index.m3u8",
                "-frames:v",
                "120",
                "-shortest",
                "-f",
                "null",
                "-",
            ],
            tmp_path / "hls.log",
        ) as reader:
            wait_until("ffmpeg has read the playlist", lambda: not reader.running(), 30)
        said = reader.log()
        assert "frame=" in said, said
        frames = int(said.rsplit("frame=", 1)[1].split()[0])
        say(f"{sender} to ffmpeg by HLS", frames=frames)
        assert frames == 120
        assert "Audio: opus" in said
        with chromium() as context:
            seen = open_page(context, f"{family.url}/watch/{stream}?mode=both")
            for player_name in ("webrtc", "hls"):
                seen.page.wait_for_function(
                    "s => document.querySelector(s)?.currentTime > 2",
                    arg=f"video[data-player={player_name}]",
                    timeout=20_000,
                )
            assert not seen.errors
