"""How many people watch by HLS, without asking who they are.

Playlists are asked for at a known pace: a low-latency player asks once a part, any other once a
target duration. So each request stands for a player during that time, and what the requests of ten
seconds stand for, divided by ten seconds, is how many play. Video and audio are asked for by the
same player: the larger one counts. Neither address nor connection matters, so a player whose
connections lie on several workers is counted in parts, once in all. It is an estimate, for lists.
"""

from collections.abc import Mapping
from typing import Final

WINDOW_SECONDS: Final = 10.0
"""How long a request counts."""
STREAMS_MAX: Final = 10_000
"""Most streams that one worker counts for."""
STREAMS_TOLD_MAX: Final = 1_500
"""Most streams in one message to media."""
LEAST: Final = 0.05
"""Less than this is nobody any more."""
RENDITIONS: Final[Mapping[str, str]] = {"v/live.m3u8": "v", "a/live.m3u8": "a", "c/live.m3u8": "c"}
"""The playlists by which players are counted."""

_ASKED_MAX: Final = STREAMS_MAX * 2 * len(RENDITIONS)

_Round = dict[str, dict[str, float]]
"""Seconds of playing that were asked for, by stream and rendition."""


class Audience:
    """The viewers of one worker."""

    def __init__(self, *, part_seconds: float, segment_seconds: float) -> None:
        self._part_seconds = part_seconds
        self._segment_seconds = segment_seconds
        self._asked: dict[tuple[str, str, bool], int] = {}
        """Requests since the last count: stream, rendition, whether by who asks for every part."""
        self._rounds: list[tuple[float, float, _Round]] = []
        """The rounds of the window: begin, end, what was asked."""
        self._began = 0.0

    def asked(self, stream: str, *, rendition: str, blocking: bool) -> None:
        """A playlist was asked for; `blocking`: by who asks for every part."""
        key = (stream, rendition, blocking)
        count = self._asked.get(key, 0)
        if count or len(self._asked) < _ASKED_MAX:
            self._asked[key] = count + 1

    def counts(self, now: float) -> dict[str, float]:
        """Viewers per stream, and begins a new round. To be called every few seconds."""
        self._rounds.append((self._began, now, self._take_round()))
        self._began = now
        oldest = now - WINDOW_SECONDS
        self._rounds = [item for item in self._rounds if item[1] > oldest]
        totals: _Round = {}
        first_asked: dict[str, float] = {}
        for began, _, counted in self._rounds:
            for stream, renditions in counted.items():
                first_asked.setdefault(stream, max(began, oldest))
                total = totals.setdefault(stream, {})
                for name, seconds in renditions.items():
                    total[name] = total.get(name, 0.0) + seconds
        counts = {
            stream: max(total.values()) / max(now - first_asked[stream], self._segment_seconds)
            for stream, total in totals.items()
        }
        counts = {stream: count for stream, count in counts.items() if count >= LEAST}
        if len(counts) > STREAMS_TOLD_MAX:
            counts = dict(sorted(counts.items(), key=lambda item: -item[1])[:STREAMS_TOLD_MAX])
        return counts

    def _take_round(self) -> _Round:
        taken: _Round = {}
        for (stream, rendition, blocking), count in self._asked.items():
            seconds = count * (self._part_seconds if blocking else self._segment_seconds)
            counted = taken.setdefault(stream, {})
            counted[rendition] = counted.get(rendition, 0.0) + seconds
        self._asked.clear()
        return taken
