"""The native packet plane (`media._native.Sfu`) on the event loop.

`Plane` runs the calls that take their time (reading an SDP, registering a session: about 0.3 ms
with the GIL released) in a few threads, and hands out what the native side tells: events and units,
whenever its eventfd becomes readable. It knows nothing of streams' lives or of who may do what.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from media import errors
from media._native import Answer, Event, NotAcceptable, Overloaded, SdpError, Unit
from media.guard import guarded

T = TypeVar("T")


class _Native(Protocol):
    """What `Plane` uses of `media._native.Sfu`; documented in its stub."""

    def publish(self, stream: str, offer: str) -> Answer: ...
    def play(self, stream: str, offer: str) -> Answer: ...
    def close(self, session: int, reason: str = ...) -> bool: ...
    def keyframe(self, stream: str) -> bool: ...
    def tap(self, stream: str, on: bool) -> None: ...
    def fileno(self) -> int: ...
    def events(self) -> list[Event]: ...
    def units(self) -> list[Unit]: ...
    def stats(self) -> list[dict[str, int]]: ...
    def streams(self) -> list[dict[str, object]]: ...
    def sessions(self) -> list[dict[str, object]]: ...
    def stop(self) -> None: ...


class Listener(Protocol):
    """Whoever is told what happens in the plane. Calls come on the loop and must be short."""

    def handle_event(self, event: Event) -> None: ...
    def handle_units(self, stream: str, units: Sequence[Unit]) -> None: ...
    def handle_fault(self, stream: str) -> None:
        """One of the calls above raised for this stream: a bug. Must not raise."""


class Plane:
    """An `Sfu` on the loop. Give it a listener and enter it; leaving stops the `Sfu`.

    Owns: the `Sfu`, and a few threads.
    """

    def __init__(self, sfu: _Native, *, threads: int = 2, waiting_max: int = 256) -> None:
        self._sfu = sfu
        self._listener: Listener | None = None
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="media-signal")
        self._waiting = 0
        self._waiting_max = waiting_max

    def listen(self, listener: Listener) -> None:
        """Whom to tell; to be called before entering."""
        self._listener = listener

    async def __aenter__(self) -> Self:
        assert self._listener is not None, "nobody listens"
        asyncio.get_running_loop().add_reader(self._sfu.fileno(), self.drain)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._sfu.fileno())
        await loop.run_in_executor(self._threads, self._sfu.stop)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def publish(self, stream: str, *, offer: str) -> Answer:
        """Raises BadOffer, NoCommonCodec, Overloaded (of `media.errors`)."""
        return await self._signal(self._sfu.publish, stream, offer)

    async def play(self, stream: str, *, offer: str) -> Answer:
        """Raises BadOffer, NoCommonCodec, Overloaded (of `media.errors`)."""
        return await self._signal(self._sfu.play, stream, offer)

    def close(self, session: int, reason: str) -> bool:
        """False when there is no such session."""
        return self._sfu.close(session, reason)

    def keyframe(self, stream: str) -> bool:
        """Asks the publisher for a key frame. False: there is none."""
        return self._sfu.keyframe(stream)

    def tap(self, stream: str, on: bool) -> None:
        """Whether the stream's units are handed out."""
        self._sfu.tap(stream, on)

    async def stream_figures(self) -> dict[str, Mapping[str, Any]]:
        """What the native side counts, by stream."""
        rows = await self._in_thread(self._sfu.streams)
        return {str(row["stream"]): row for row in rows}

    async def session_figures(self) -> dict[int, Mapping[str, Any]]:
        """What the native side counts, by its session number."""
        rows: list[dict[str, Any]] = await self._in_thread(self._sfu.sessions)
        return {int(row["session"]): row for row in rows}

    async def worker_figures(self) -> list[dict[str, int]]:
        """What each worker counts."""
        return await self._in_thread(self._sfu.stats)

    def drain(self) -> None:
        """Hands out what has happened: news first, then units, then ends of sessions, so that
        the last units of a session still find it."""
        listener = self._listener
        assert listener is not None
        events = self._sfu.events()
        by_stream: dict[str, list[Unit]] = {}
        for unit in self._sfu.units():
            by_stream.setdefault(unit.stream, []).append(unit)
        for event in events:
            if event.kind != "closed":
                guarded(event.stream, listener.handle_fault, listener.handle_event, event)
        for stream, units in by_stream.items():
            guarded(stream, listener.handle_fault, listener.handle_units, stream, units)
        for event in events:
            if event.kind == "closed":
                guarded(event.stream, listener.handle_fault, listener.handle_event, event)

    async def _signal(self, call: Callable[[str, str], Answer], stream: str, offer: str) -> Answer:
        if self._waiting >= self._waiting_max:
            detail = "too many sessions are being set up at once"
            raise errors.Overloaded(detail, limit="requests")
        self._waiting += 1
        try:
            return await self._in_thread(call, stream, offer)
        except SdpError as error:
            raise errors.BadOffer(str(error)) from error
        except NotAcceptable as error:
            raise errors.NoCommonCodec(str(error)) from error
        except Overloaded as error:
            message, limit = error.args
            raise errors.Overloaded(message, limit=limit) from error
        finally:
            self._waiting -= 1

    async def _in_thread(self, call: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)
