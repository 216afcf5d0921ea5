"""A writer and a shelf on one folder, in faked time, with every playlist checked at every step."""

from collections.abc import Sequence
from pathlib import Path

from media.hls.shelf import Reply, Shelf, Wait
from media.hls.units import Unit
from media.hls.writer import HlsSettings, StreamWriter
from tests.conformance import hls_media, hls_text
from tests.conformance.hls_text import Media
from tests.media.hls import material


class Stage:
    """`play` pushes units and checks; `faults` holds what was found."""

    def __init__(
        self, root: Path, settings: HlsSettings | None = None, *, open_writer: bool = True
    ) -> None:
        self.root = root
        self.settings = settings or HlsSettings(window_seconds=24)
        if open_writer:
            self.writer = StreamWriter(root, "s", self.settings)
        self.shelf = Shelf(root)
        self.faults: list[str] = []
        self.steps = 0
        self.now = 0.0
        self._seen: dict[str, Media] = {}

    def play(self, units: Sequence[Unit], *, every_ms: int = 20, ask: bool = False) -> None:
        """Pushes the units as they come; `ask`: also for AAC."""
        for now, batch in material.batches(units, every_ms):
            self.now = now
            if ask:
                self.writer.demand_aac(now)
            if self.writer.push(batch, now):
                self.look()

    def look(self) -> None:
        """Reads what was published and checks it."""
        self.shelf.refresh("s")
        self.steps += 1
        for name in "vac":
            media = self.media(name)
            if media is None:
                continue
            found = hls_text.faults(media)
            known = self._seen.get(name)
            if known is not None:
                found += hls_text.step_faults(known, media)
                delta = hls_text.read(self.text(f"{name}/live.m3u8", "_HLS_skip=YES"))
                covered = delta.first + delta.skipped <= known.next[0] or not delta.skipped
                if (
                    covered
                    and hls_text.merge(delta, known if delta.skipped else media) != media.text
                ):
                    found.append("the merged delta is not the full playlist")
                found += hls_text.faults(delta)
            self.faults += [f"{name} step {self.steps}: {fault}" for fault in found]
            self._seen[name] = media

    def media(self, name: str) -> Media | None:
        """The rendition's playlist; None: not there."""
        answer = self.shelf.answer("s", path=f"{name}/live.m3u8", query="", now=0.0)
        if isinstance(answer, Wait) or answer.status != 200:
            return None
        return hls_text.read(bytes(answer.body).decode())

    def there(self, name: str) -> Media:
        """The rendition's playlist, which is there."""
        media = self.media(name)
        assert media is not None, f"no playlist {name}"
        return media

    def text(self, path: str, query: str = "") -> str:
        return self.fetch(path, query).decode()

    def fetch(self, path: str, query: str = "") -> bytes:
        """The body of an answer that is 200."""
        answer = self.shelf.answer("s", path=path, query=query, now=0.0)
        assert isinstance(answer, Reply), f"{path} has to be waited for"
        assert answer.status == 200, f"{path}: {answer.status} {bytes(answer.body)!r}"
        return bytes(answer.body)

    def media_faults(self, name: str) -> list[str]:
        """What is wrong with the bytes behind the playlist: times, sums, parts against segments."""
        found: list[str] = []
        media = self.there(name)
        end: int | None = None
        for segment in media.segments:
            if segment.breaks:
                end = None
            scale = hls_media.timescale(self.fetch(f"{name}/{segment.init}"))
            joined = b""
            for part in segment.parts:
                if part.gap:
                    end = None
                    continue
                data = self.fetch(f"{name}/{part.uri}")
                joined += data
                (chunk,) = hls_media.chunks(data)
                if abs(chunk.duration - part.duration * scale) > 1:
                    found.append(f"{part.uri}: {chunk.duration / scale} is not {part.duration}")
                if part.uri.endswith(".0.m4s") and name == "v" and chunk.key != part.independent:
                    found.append(f"{part.uri}: INDEPENDENT does not fit")
            if not segment.whole or segment.gap:
                end = None if segment.gap else end
                continue
            whole = self.fetch(f"{name}/{segment.uri}")
            if segment.parts and joined != whole:
                found.append(f"{segment.uri}: its parts are not the segment")
            gaps = not segment.parts or any(part.gap for part in segment.parts)
            for chunk in hls_media.chunks(whole):
                if end is not None and chunk.start != end and not gaps:
                    found.append(f"{segment.uri}: starts at {chunk.start}, not {end}")
                end = chunk.start + chunk.duration
        return found

    def in_step(self, *, apart_seconds: float = 0.25) -> list[str]:
        """Where segments of the same number do not cover the same time in all renditions."""
        found = []
        video, audio = self.there("v"), self.there("a")
        sound = {segment.msn: segment for segment in audio.segments}
        for segment in video.segments[1:-1]:
            other = sound.get(segment.msn)
            if other is None or other is audio.segments[0]:
                continue
            apart = other.date - segment.date
            if abs(apart) > apart_seconds and not segment.gap and not other.gap:
                found.append(f"{segment.msn}: audio starts {apart:.3f} s after video")
            if other.discontinuity != segment.discontinuity:
                found.append(f"{segment.msn}: discontinuity sequences differ")
        return found
