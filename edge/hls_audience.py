"""How many people watch by HLS, without asking them who they are.

A viewer is told by address, user agent and key. Several players behind one of these (tabs, a
household) are told apart by how many requests for the same playlist are held at once: a low-latency
player holds exactly one. Connections are not counted: one player uses several. It is an estimate
for lists.
"""

from typing import Final

WINDOW_SECONDS: Final = 10.0
"""How long somebody who asks no more still counts."""
GROUPS_MAX: Final = 50_000
"""Most groups that one worker keeps apart."""
STREAMS_TOLD_MAX: Final = 1_500
"""Most streams in one message to media."""
_RENDITIONS: Final = {"v/live.m3u8": 0, "a/live.m3u8": 1, "c/live.m3u8": 2}


class Group:
    """Players that look the same, of one stream."""

    __slots__ = ("held", "peak", "seen", "stream")

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.seen = 0.0
        self.held = [0, 0, 0]
        self.peak = [0, 0, 0]


class Audience:
    """The viewers of one worker."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], Group] = {}
        self._rotated = 0.0

    @staticmethod
    def rendition(path: str) -> int:
        """Which playlist this is, or -1 when asking for it makes nobody a viewer."""
        return _RENDITIONS.get(path, -1)

    def seen(self, stream: str, *, viewer: str, now: float) -> Group | None:
        """Somebody asks for a playlist. None when there are too many to keep apart."""
        name = (stream, viewer)
        group = self._groups.get(name)
        if group is None:
            if len(self._groups) >= GROUPS_MAX:
                return None
            group = self._groups[name] = Group(stream)
        group.seen = now
        return group

    @staticmethod
    def hold(group: Group, rendition: int) -> None:
        """A request of the group is held back until there is more."""
        group.held[rendition] += 1
        group.peak[rendition] = max(group.peak[rendition], group.held[rendition])

    @staticmethod
    def release(group: Group, rendition: int) -> None:
        """The held request is answered or gone."""
        group.held[rendition] -= 1
        assert group.held[rendition] >= 0

    def counts(self, now: float) -> dict[str, int]:
        """Viewers per stream. Cost: one step a group."""
        rotate = now - self._rotated >= WINDOW_SECONDS
        if rotate:
            self._rotated = now
        counts: dict[str, int] = {}
        gone = []
        for name, group in self._groups.items():
            if any(group.held) or now - group.seen < WINDOW_SECONDS:
                counts[group.stream] = counts.get(group.stream, 0) + max(1, *group.peak)
                if rotate:
                    group.peak = group.held.copy()
            else:
                gone.append(name)
        for name in gone:
            del self._groups[name]
        if len(counts) > STREAMS_TOLD_MAX:
            counts = dict(sorted(counts.items(), key=lambda item: -item[1])[:STREAMS_TOLD_MAX])
        return counts
