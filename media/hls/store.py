"""A stream's folder in the run directory: files of segments, and the journal. Only the writer
uses it."""

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from media.cmaf.header import init_segment
from media.hls import records
from media.hls.book import Book
from media.hls.ledger import Ledger
from media.hls.timeline import NewInit
from media.hls.track import MadePart

_JOURNAL_BYTES_MIN = 131_072
"""Below this a journal is not written anew."""
_BACKLOG_BYTES_MAX = 1 << 20
"""Lines kept while the journal cannot be written; beyond them the stream begins a new journal."""
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
_MODE = 0o600


def read_journal(path: Path) -> tuple[Book, list[records.Record]]:
    """What a journal says, up to its last whole line.

    Raises: OSError when it cannot be read; ValueError when it is damaged.
    """
    found, _ = records.parse(path.read_bytes())
    book = Book()
    for record in found:
        book.apply(record)
    return book, found


class Store:
    """Owns the journal's descriptor and those of open segments; `close` gives them back."""

    def __init__(self, folder: Path, head: records.Head, *, bytes_max: int) -> None:
        self.ledger = Ledger(head, bytes_max=bytes_max)
        self.lost_writes = 0
        """Parts and lines for which there was no room."""
        self._folder = folder
        self._journal = -1
        self._journal_bytes = 0
        self._compact_at = _JOURNAL_BYTES_MIN
        self._backlog = bytearray()
        self._files: dict[str, tuple[int, int, int]] = {}
        """Rendition: the open segment's number, its descriptor, its length."""

    def begin(self) -> None:
        """An empty journal takes the place of a former stream's, whose files go."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._compact()
        for name in records.RENDITIONS:
            shutil.rmtree(self._folder / name, ignore_errors=True)

    def adopt(self, found: Sequence[records.Record]) -> None:
        """Goes on with a journal that said this; an unfinished line is left behind."""
        for record in found:
            self.ledger.note(record)
        self._compact()

    def close(self) -> None:
        """Closes the files; what is written stays."""
        for _, file, _ in self._files.values():
            os.close(file)
        self._files.clear()
        if self._journal >= 0:
            os.close(self._journal)
        self._journal = -1

    def part(self, made: MadePart) -> records.Part:
        """Writes a part's bytes. The record tells of a gap when there was no room for them."""
        offset, size = 0, 0
        gap = made.gap
        if not gap:
            try:
                offset, size = self._append(made)
            except OSError:
                self.lost_writes += 1
                gap = True
        return records.Part(
            made.rendition,
            made.msn,
            made.part,
            made.start,
            made.duration,
            made.at_ms,
            offset,
            size,
            made.samples if not gap else 0,
            made.independent and not gap,
            made.last,
            made.discontinuity,
            gap,
            time.time_ns() // 1_000,
        )

    def init(self, made: NewInit) -> records.Init:
        """Writes an init segment."""
        data = init_segment(made.format)
        path = self._path(made.rendition, f"init.{made.number}.mp4")
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            path.write_bytes(data)
        except OSError:
            self.lost_writes += 1
        form = made.format
        return records.Init(
            made.rendition, made.number, len(data), form.codec, form.width, form.height
        )

    def write(self, lines: Sequence[records.Record]) -> None:
        """Puts records into the journal, in one write."""
        self._backlog += b"".join([self.ledger.note(record) for record in lines])
        self._flush()

    def trim(self) -> None:
        """Lets go of what is too old or too much; writes the journal anew when it has grown
        long."""
        trims = self.ledger.trims()
        if not trims:
            return
        self.write(trims)
        for dropped in self.ledger.drop():
            for msn in dropped.segments:
                self._path(dropped.rendition, f"s{msn}.m4s").unlink(missing_ok=True)
            for number in dropped.inits:
                self._path(dropped.rendition, f"init.{number}.mp4").unlink(missing_ok=True)
        if self._journal_bytes > self._compact_at:
            try:
                self._compact()
            except OSError:
                self.lost_writes += 1
                self._compact_at = self._journal_bytes + _JOURNAL_BYTES_MIN

    def forget(self, rendition: str) -> None:
        """Takes a rendition's files away."""
        former = self._files.pop(rendition, None)
        if former is not None:
            os.close(former[1])
        shutil.rmtree(self._folder / rendition, ignore_errors=True)

    def _path(self, rendition: str, name: str) -> Path:
        return self._folder / rendition / name

    def _append(self, made: MadePart) -> tuple[int, int]:
        """Where the part came to lie in its segment's file, and its size."""
        former = self._files.get(made.rendition)
        if former is None or former[0] != made.msn:
            if former is not None:
                del self._files[made.rendition]
                os.close(former[1])
            path = self._path(made.rendition, f"s{made.msn}.m4s")
            try:
                file = os.open(path, _CREATE | os.O_TRUNC, _MODE)
            except FileNotFoundError:
                path.parent.mkdir(mode=0o700, exist_ok=True)
                file = os.open(path, _CREATE | os.O_TRUNC, _MODE)
            former = (made.msn, file, 0)
            self._files[made.rendition] = former
        _, file, offset = former
        size = sum(map(len, made.pieces))
        if os.pwritev(file, made.pieces, offset) != size:
            raise OSError("no room for the part")
        self._files[made.rendition] = (made.msn, file, offset + size)
        return offset, size

    def _flush(self) -> None:
        """Writes the lines that wait; keeps those for which there is no room."""
        if not self._backlog:
            return
        try:
            written = os.write(self._journal, self._backlog)
        except OSError:
            self.lost_writes += 1
            written = 0
        self._journal_bytes += written
        del self._backlog[:written]
        if len(self._backlog) > _BACKLOG_BYTES_MAX:
            self._compact()

    def _compact(self) -> None:
        """Writes a journal of what is kept beside the old one, then puts it in its place."""
        text = self.ledger.text()
        fresh = self._folder / "journal.new"
        fresh.write_bytes(text)
        file = os.open(fresh, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        fresh.rename(self._folder / "journal")
        if self._journal >= 0:
            os.close(self._journal)
        self._journal, self._journal_bytes = file, len(text)
        self._backlog.clear()
        self._compact_at = max(_JOURNAL_BYTES_MIN, 2 * len(text))
