"""A live stream's playlists, read for a minute by two foreign parsers and a checker of RFC 8216bis,
through two publisher restarts and a change of size."""

import asyncio
import json
import subprocess
from pathlib import Path

import aiohttp
import m3u8

from tests.conformance.hls_checker import HlsChecker
from tests.end_to_end.family import Family, fetch, wait_until
from tests.end_to_end.figures import say
from tests.end_to_end.publishers import NODE, ffmpeg_whip

SIZES = ("640x360", "640x360", "960x540")


async def _restless(family: Family, stream: str, directory: Path, seconds: float) -> None:
    """Three publishers one after another, the last with another picture size."""
    for turn, size in enumerate(SIZES):
        with ffmpeg_whip(
            f"{family.url}/whip/{stream}", directory / f"{turn}.log", size=size
        ) as sender:
            await asyncio.sleep(seconds / len(SIZES))
            sender.kill()


async def _parse_often(url: str, node: "subprocess.Popen[str]", seconds: float) -> int:
    """Both parsers read the playlist again and again; how often."""
    count, loop = 0, asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end:
        status, body = await asyncio.to_thread(fetch, url)
        if status == 200:
            parsed = m3u8.loads(body.decode(), uri=url)
            assert parsed.segments or parsed.playlists or b"EXT-X-PART" in body
            assert node.stdin is not None
            node.stdin.write(json.dumps(body.decode()) + "\n")
            node.stdin.flush()
            count += 1
        await asyncio.sleep(0.25)
    return count


def test_a_minute_of_playlists(quiet_family: Family, tmp_path: Path, prove: bool) -> None:
    family, seconds = quiet_family, 60.0 if prove else 36.0
    url = f"{family.url}/hls/minute"

    async def run() -> None:
        publishing = asyncio.ensure_future(_restless(family, "minute", tmp_path, seconds))
        await asyncio.to_thread(
            wait_until, "HLS has begun", lambda: fetch(f"{url}/index.m3u8")[0] == 200, 20
        )
        node = await asyncio.to_thread(
            subprocess.Popen,
            ["node", str(NODE / "parse.mjs")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=NODE,
        )  # fmt: skip
        parsing = asyncio.ensure_future(_parse_often(url + "/v/live.m3u8", node, seconds - 6))
        async with aiohttp.ClientSession() as session:
            found = await HlsChecker(session, url + "/index.m3u8").run(seconds - 6)
        parsed = await parsing
        await publishing
        said, _ = await asyncio.to_thread(node.communicate)
        result = json.loads(said)
        say("playlists", m3u8=parsed, hls_parser=result["parsed"], objections=result["faults"])
        say(
            "checker",
            playlists=found.playlists,
            deltas=found.deltas,
            parts=found.parts,
            segments=found.segments,
            discontinuities=found.discontinuities,
            inits=found.inits,
            slowest_reload_seconds=found.slowest_reload_seconds,
            faults=found.faults[:5],
        )
        assert result["faults"] == []
        assert found.faults == []
        assert found.discontinuities >= 2

    asyncio.run(run())
