"""A shelf that holds what a test puts on it: the surface of `media.hls.shelf.Shelf`, without
files."""

from media.hls.shelf import Reply, Wait, problem

PLAYLIST = b"application/vnd.apple.mpegurl"


class FakeShelf:
    """Answers by path and query; what is `awaited` is waited for until it is put on the shelf."""

    def __init__(self) -> None:
        self.replies: dict[tuple[str, str, str], Reply] = {}
        self.awaited: set[tuple[str, str, str]] = set()
        self.wait_seconds = 5.0
        self.refreshed: list[str] = []
        self.asked = 0

    def put(self, stream: str, path: str, body: bytes, *, query: str = "") -> None:
        """From now on this is there."""
        kind = PLAYLIST if path.endswith(".m3u8") else b"video/mp4"
        fresh = b"public, max-age=1"
        self.replies[stream, path, query] = Reply(200, kind, fresh, body)
        self.awaited.discard((stream, path, query))

    def expect(self, stream: str, path: str, *, query: str = "") -> None:
        """Who asks for this waits."""
        self.awaited.add((stream, path, query))

    def refresh(self, stream: str) -> bool:
        self.refreshed.append(stream)
        return True

    def answer(self, stream: str, path: str, query: str, now: float) -> Reply | Wait:
        self.asked += 1
        key = (stream, path, query)
        reply = self.replies.get(key)
        if reply is not None:
            return reply
        if key in self.awaited:
            return Wait(stream, now + self.wait_seconds, problem(503, "it did not come"))
        return problem(404, "no such file")

    def sweep(self) -> None:
        return

    def close(self) -> None:
        return
