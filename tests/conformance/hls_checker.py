"""Plays a live LL-HLS stream over HTTP as a low-latency client does, and checks RFC 8216bis on the
way.

    checker = HlsChecker(session, "http://127.0.0.1:8080/hls/demo/index.m3u8")
    findings = await checker.run(60)
    assert findings.faults == []

Every rendition of the first variant is followed by blocking reloads with delta updates, each with a
request for the hinted part beside it; parts are compared with their segments, times with what is
announced, merged deltas with full playlists, rendition reports with the renditions. Use it on any
server: it knows nothing of ours but that names of parts follow from the playlist.
"""

import asyncio
import time
from dataclasses import dataclass, field
from itertools import pairwise
from urllib.parse import urljoin

import aiohttp

from tests.conformance import hls_media, hls_text
from tests.conformance.hls_text import Media, Segment

_FULL_EVERY = 7
"""So many delta updates between two full playlists to compare with."""


@dataclass
class Findings:
    """What was seen. `faults` are sentences; empty is good."""

    faults: list[str] = field(default_factory=list)
    playlists: int = 0
    deltas: int = 0
    parts: int = 0
    segments: int = 0
    discontinuities: int = 0
    gaps: int = 0
    inits: int = 0
    codecs: str = ""
    renditions: list[str] = field(default_factory=list)
    slowest_reload_seconds: float = 0.0
    ages_seconds: list[float] = field(default_factory=list)
    """Of each new part's end when its playlist came, on this machine's clock."""


class HlsChecker:
    """One run over one stream. The session is the caller's."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        index_url: str,
        *,
        headers: dict[str, str] | None = None,
    ) -> None:
        self._session = session
        self._index = index_url
        self._headers = headers or {}
        self._findings = Findings()
        self._known: dict[str, Media] = {}
        self._ticks: dict[str, int | None] = {}
        self._scales: dict[str, int] = {}
        self._bytes: dict[str, bytes] = {}

    async def run(self, seconds: float) -> Findings:
        """Follows the stream for so long, or until it ends."""
        urls = await self._multivariant()
        end = time.monotonic() + seconds
        await asyncio.gather(*(self._follow(url, end) for url in urls))
        await self._reports(urls)
        return self._findings

    # -- requests -------------------------------------------------------------------------

    async def _get(self, url: str) -> tuple[int, bytes, dict[str, str]]:
        timeout = aiohttp.ClientTimeout(total=30)
        async with self._session.get(url, headers=self._headers, timeout=timeout) as response:
            return response.status, await response.read(), dict(response.headers)

    def _fault(self, where: str, what: str) -> None:
        if len(self._findings.faults) < 100:
            self._findings.faults.append(f"{where}: {what}")

    async def _multivariant(self) -> list[str]:
        status, body, headers = await self._get(self._index)
        if status != 200:
            self._fault(self._index, f"status {status}")
            return []
        if "mpegurl" not in headers.get("Content-Type", ""):
            self._fault(self._index, f"type {headers.get('Content-Type')}")
        lines = body.decode().splitlines()
        groups = {}
        for line in lines:
            if line.startswith("#EXT-X-MEDIA:"):
                found = hls_text.attributes(line.partition(":")[2])
                groups[found["GROUP-ID"]] = found["URI"]
        for tag, uri in pairwise(lines):
            if tag.startswith("#EXT-X-STREAM-INF:"):
                variant = hls_text.attributes(tag.partition(":")[2])
                names = [uri, *([groups[variant["AUDIO"]]] if "AUDIO" in variant else [])]
                self._findings.codecs = variant.get("CODECS", "")
                self._findings.renditions = names
                if not {"BANDWIDTH", "CODECS"} <= set(variant):
                    self._fault(self._index, f"a variant without BANDWIDTH or CODECS: {tag}")
                return [urljoin(self._index, name) for name in names]
        self._fault(self._index, "no variant")
        return []

    # -- one rendition --------------------------------------------------------------------

    async def _follow(self, url: str, end: float) -> None:
        media = await self._full(url)
        if media is None:
            return
        await self._refusals(url, media)
        await self._new(url, media, None)
        round_trip = 0
        while not media.ended and time.monotonic() < end:
            after = await self._reload(url, media)
            if after is None:
                return
            round_trip += 1
            if round_trip % _FULL_EVERY == 0:
                await self._compare(url, after)
            await self._new(url, after, media)
            media = after
        self._known[url] = media

    async def _full(self, url: str) -> Media | None:
        status, body, headers = await self._get(url)
        if status != 200:
            self._fault(url, f"status {status}: {body[:200]!r}")
            return None
        if "max-age=1" not in headers.get("Cache-Control", ""):
            self._fault(url, f"Cache-Control {headers.get('Cache-Control')} on a plain playlist")
        return self._read(url, body)

    def _read(self, url: str, body: bytes) -> Media | None:
        self._findings.playlists += 1
        try:
            media = hls_text.read(body.decode())
        except (ValueError, KeyError) as error:
            self._fault(url, f"cannot be read: {error!r}")
            return None
        for fault in hls_text.faults(media):
            self._fault(url, fault)
        return media

    async def _reload(self, url: str, known: Media) -> Media | None:
        """The playlist with the next part in it, by a delta update; beside it the hinted part."""
        msn, part = known.next
        query = f"?_HLS_msn={msn}&_HLS_part={part}&_HLS_skip=YES"
        hint = urljoin(url, known.hints[0]["URI"])
        began = time.monotonic()
        (status, body, _), hinted = await asyncio.gather(self._get(url + query), self._get(hint))
        took = time.monotonic() - began
        self._findings.slowest_reload_seconds = max(self._findings.slowest_reload_seconds, took)
        if hinted[0] == 200:
            self._bytes[hint] = hinted[1]
        elif hinted[0] != 404:
            self._fault(hint, f"hinted, and its status is {hinted[0]}")
        if status == 503:
            if took < 2.9 * known.target:
                self._fault(url, f"503 after {took:.1f} s")
            return known
        if status != 200:
            self._fault(url, f"status {status} on a blocking reload: {body[:200]!r}")
            return None
        delta = self._read(url, body)
        if delta is None:
            return None
        self._findings.deltas += bool(delta.skipped)
        try:
            media = hls_text.read(hls_text.merge(delta, known))
        except ValueError as error:
            self._fault(url, f"delta: {error}")
            return await self._full(url)
        if not media.ended and media.last < (msn, part) and media.last[0] <= msn:
            self._fault(url, f"asked for {msn}.{part}, answered up to {media.last}")
        for fault in [*hls_text.faults(media), *hls_text.step_faults(known, media)]:
            self._fault(url, fault)
        return media

    async def _compare(self, url: str, merged: Media) -> None:
        """A full playlist of the same state is what was merged."""
        full = await self._full(url)
        if full is None or full.next != merged.next:
            return
        if _without_reports(full) != _without_reports(merged):
            self._fault(url, "the merged delta is not the full playlist")

    async def _refusals(self, url: str, media: Media) -> None:
        """Requests that must be refused are."""
        msn = media.next[0]
        for query, wanted in (
            (f"_HLS_msn={msn + 3}", 400),
            ("_HLS_part=0", 400),
            (f"_HLS_msn=0{msn}", 400),
            (f"_HLS_msn={msn}&_HLS_part=1000", 400),
        ):
            status, _, headers = await self._get(f"{url}?{query}")
            if status != wanted:
                self._fault(url, f"{query}: status {status}, not {wanted}")
            elif "no-store" not in headers.get("Cache-Control", ""):
                self._fault(url, f"{query}: a refusal that may be kept")
        status, _, _ = await self._get(urljoin(url, f"s{msn + 50}.0.m4s"))
        if status != 404:
            self._fault(url, f"a part far ahead: status {status}, not 404")

    # -- media ----------------------------------------------------------------------------

    async def _new(self, url: str, media: Media, before: Media | None) -> None:
        """Fetches and checks what was listed since."""
        since = before.next if before is not None else (media.segments[-1].msn - 1, 0)
        for segment in media.segments:
            if segment.msn < since[0]:
                continue
            fresh = segment.parts[since[1] :] if segment.msn == since[0] else segment.parts
            if segment.breaks and len(fresh) == len(segment.parts):
                self._findings.discontinuities += 1
                self._ticks[url] = None
            for part in fresh:
                await self._part(url, segment, part)
            if before is not None and fresh and segment is media.segments[-1]:
                parts = sum(part.duration for part in segment.parts)
                self._findings.ages_seconds.append(time.time() - segment.date - parts)
            if segment.whole and segment.parts:
                await self._whole(url, segment)

    async def _part(self, url: str, segment: Segment, part: hls_text.Part) -> None:
        self._findings.gaps += part.gap
        if part.gap:
            self._ticks[url] = None
            return
        where = urljoin(url, part.uri)
        scale = await self._scale(url, segment)
        data = self._bytes.get(where)
        if data is None:
            status, data, headers = await self._get(where)
            if status != 200:
                self._fault(where, f"listed, and its status is {status}")
                return
            if "max-age=3600" not in headers.get("Cache-Control", ""):
                self._fault(where, f"Cache-Control {headers.get('Cache-Control')}")
            self._bytes[where] = data
        self._findings.parts += 1
        try:
            chunks = hls_media.chunks(data)
        except (ValueError, KeyError, AssertionError) as error:
            self._fault(where, f"is no part: {error!r}")
            return
        total = sum(chunk.duration for chunk in chunks)
        if abs(total - part.duration * scale) > 1:
            self._fault(where, f"lasts {total / scale}, announced {part.duration}")
        expected = self._ticks.get(url)
        if expected is not None and chunks[0].start != expected:
            self._fault(where, f"starts at {chunks[0].start}, not {expected}")
        self._ticks[url] = chunks[0].start + total

    async def _scale(self, url: str, segment: Segment) -> int:
        where = urljoin(url, segment.init)
        if where not in self._scales:
            status, data, _ = await self._get(where)
            if status != 200:
                self._fault(where, f"status {status}")
                return 1
            self._findings.inits += 1
            self._scales[where] = hls_media.timescale(data)
        return self._scales[where]

    async def _whole(self, url: str, segment: Segment) -> None:
        """A segment is its parts, one after the other."""
        parts = [urljoin(url, part.uri) for part in segment.parts if not part.gap]
        if segment.gap or any(part not in self._bytes for part in parts):
            return
        where = urljoin(url, segment.uri)
        status, data, _ = await self._get(where)
        self._findings.segments += 1
        if status != 200:
            self._fault(where, f"listed, and its status is {status}")
        elif data != b"".join(self._bytes[part] for part in parts):
            self._fault(where, "is not its parts")
        for part in parts:
            del self._bytes[part]

    async def _reports(self, urls: list[str]) -> None:
        """What playlists report of each other is what the others say of themselves."""
        for url in urls:
            media = self._known.get(url)
            if media is None:
                continue
            for report in media.reports:
                other = urljoin(url, report["URI"])
                told = (int(report["LAST-MSN"]), int(report["LAST-PART"]))
                status, body, _ = await self._get(other)
                if status != 200:
                    self._fault(url, f"reports {other}, whose status is {status}")
                    continue
                there = hls_text.read(body.decode())
                if told > there.last or told[0] < there.first:
                    self._fault(url, f"reports {told} of {other}, which is at {there.last}")


def _without_reports(media: Media) -> str:
    lines = media.text.split("\n")
    return "\n".join(line for line in lines if not line.startswith("#EXT-X-RENDITION-REPORT"))
