"""A live stream to be measured: in a node of the benchmark's own, or in one that runs at a URL.

The clip of `benchmarks/clip.py` comes in by WHIP, so the stream's parts and segments are what a
publisher's would be. It says what to ask for and when each part was published; it measures nothing.
"""

import asyncio
import contextlib
import json
import os
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from benchmarks.clip import make_clip
from benchmarks.server import children, started
from media._native import Swarm
from media.hls import records

LISTED_SECONDS: Final = 60.0
"""Until a playlist has what a delta update skips: six target durations and some."""
_PAUSE_SECONDS: Final = 0.1
_FLAGS: Final = {"edge.workers": "1", "webrtc.workers": "1", "hls.segment_ms": "1000"}
"""One worker is measured; a segment of a second of the clip has 200 kB."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A live stream on this machine."""

    url: str
    run_dir: Path
    name: str
    keys: Sequence[str]
    """To be shown in the path, by one player each; none: no key is needed."""

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return parts.hostname or "127.0.0.1", parts.port or 80

    def pid(self, role: str) -> int:
        """Process id of a role's first process. Raises: LookupError."""
        for name, pid in children(self.run_dir).items():
            if name.startswith(role):
                return pid
        raise LookupError(f"the node has no {role} process")

    def folder(self, player: int = 0) -> str:
        """The path of the stream's video, up to and with its last slash."""
        key = f"~{self.keys[player % len(self.keys)]}/" if self.keys else ""
        return f"/hls/{key}{self.name}/v/"

    @property
    def open_folder(self) -> str:
        """The same without a key: an own server lets anybody play."""
        return f"/hls/{self.name}/v/"

    def read(self, name: str) -> bytes:
        """A file or playlist of the video. Raises: LookupError when it is not there, OSError."""
        status, body = fetch(f"{self.url}{self.folder()}{name}")
        if status != 200:
            raise LookupError(f"{name}: {status} {body[:200]!r}")
        return body

    def parts(self) -> dict[tuple[int, int], records.Part]:
        """The video's parts by media sequence number and index. Raises: LookupError."""
        journal = self.run_dir / "hls" / self.name / "journal"
        try:
            found, _ = records.parse(journal.read_bytes())
        except OSError as fault:
            raise LookupError(f"no journal of the stream: {fault}") from fault
        return {
            (record.msn, record.index): record
            for record in found
            if isinstance(record, records.Part) and record.rendition == "v" and not record.gap
        }


@contextlib.asynccontextmanager
async def live(
    *, url: str, run_dir: Path | None, key: str, keys: int, flags: Mapping[str, str]
) -> AsyncIterator[Stream]:
    """A stream that has been live for long enough; in a node of its own without a `url`, which
    then checks a key of each of `keys` players.

    Raises: LookupError, OSError, TimeoutError. **Owns** the publisher and the node it started.
    """
    if url:
        port = urlsplit(url).port or 80
        where = run_dir or Path(f"/dev/shm/nexus-{os.getuid()}-{port}")
        shown = [key] if key else []
        async with _published(Stream(url.rstrip("/"), where, "bench", shown), key) as stream:
            yield stream
        return
    publisher = f"publish-{secrets.token_hex(8)}" if keys else ""
    players = [secrets.token_hex(8) for _ in range(keys)]
    auth: dict[str, str] = {}
    if keys:
        auth["auth.keys"] = json.dumps(_told(publisher, players))
        auth["auth.read_public"] = "true"
    async with started({**_FLAGS, **auth, **flags}) as node:
        made = Stream(node.url, node.run_dir, "bench", players)
        async with _published(made, publisher) as stream:
            yield stream


def _told(publisher: str, players: Sequence[str]) -> list[dict[str, object]]:
    """The settings' table of keys."""
    told: list[dict[str, object]] = [
        {"name": f"player-{number}", "secret": key, "actions": ["read"]}
        for number, key in enumerate(players)
    ]
    return [*told, {"name": "publisher", "secret": publisher, "actions": ["publish"]}]


@contextlib.asynccontextmanager
async def _published(stream: Stream, key: str) -> AsyncIterator[Stream]:
    """The clip, published, once its playlist is long enough."""
    clip = await asyncio.to_thread(make_clip)
    swarm = Swarm()
    try:
        client, offer = swarm.offer_publisher(units=clip.units, loop_ms=clip.loop_ms)
        target = f"{stream.url}/whip/{stream.name}"
        status, body = await asyncio.to_thread(fetch, target, key=key, data=offer.encode())
        if status != 201:
            raise LookupError(f"the server takes no publisher: {status} {body[:200]!r}")
        swarm.answer(client, body.decode())
        async with asyncio.timeout(LISTED_SECONDS):
            playlist = f"{stream.url}{stream.folder()}live.m3u8?_HLS_skip=YES"
            while True:
                _, text = await asyncio.to_thread(fetch, playlist)
                if b"#EXT-X-SKIP" in text:
                    break
                await asyncio.sleep(_PAUSE_SECONDS)
        yield stream
    finally:
        swarm.stop()


def fetch(url: str, *, key: str = "", data: bytes | None = None) -> tuple[int, bytes]:
    """Status and body; an error status is an answer too. Raises: OSError."""
    request = Request(url, data=data)
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    if data is not None:
        request.add_header("Content-Type", "application/sdp")
    try:
        with urlopen(request, timeout=10) as answer:
            return int(answer.status), bytes(answer.read())
    except HTTPError as refused:
        return refused.code, refused.read()
