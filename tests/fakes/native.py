"""A packet plane without packets: the surface of `media._native.Sfu`, driven by the test."""

import itertools
import os
from typing import Self

from media._native import Answer, Event, NotAcceptable, SdpError, Unit


class FakeSfu:
    """Remembers what it was asked; `tell` and `give` make its eventfd readable."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK)
        self._numbers = itertools.count(1)
        self._events: list[Event] = []
        self._units: list[Unit] = []
        self.alive: dict[int, tuple[str, bool]] = {}
        self.taps: dict[str, bool] = {}
        self.keyframes: list[str] = []
        self.closed: list[tuple[int, str]] = []
        self.rows: list[dict[str, object]] = []
        self.stopped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def publish(self, stream: str, offer: str) -> Answer:
        return self._join(stream, offer, publishes=True)

    def play(self, stream: str, offer: str) -> Answer:
        return self._join(stream, offer, publishes=False)

    def close(self, session: int, reason: str = "closed by request") -> bool:
        if session not in self.alive:
            return False
        stream, _ = self.alive.pop(session)
        self.closed.append((session, reason))
        self.tell(session, stream, "closed", reason)
        return True

    def keyframe(self, stream: str) -> bool:
        self.keyframes.append(stream)
        return any(name == stream and publishes for name, publishes in self.alive.values())

    def tap(self, stream: str, on: bool) -> None:
        self.taps[stream] = on

    def fileno(self) -> int:
        return self._fd

    def events(self) -> list[Event]:
        self._reset()
        events, self._events = self._events, []
        return events

    def units(self) -> list[Unit]:
        units, self._units = self._units, []
        return units

    def stats(self) -> list[dict[str, int]]:
        return [{"packets_in": 10, "sessions": len(self.alive)}]

    def streams(self) -> list[dict[str, object]]:
        return self.rows

    def sessions(self) -> list[dict[str, object]]:
        return [{"session": number, "packets": 7} for number in self.alive]

    def stop(self) -> None:
        self.stopped = True

    def tell(self, session: int, stream: str, kind: str, detail: str = "") -> None:
        """An event happens."""
        self._events.append(Event(session, stream, kind, detail))
        os.eventfd_write(self._fd, 1)

    def give(self, *units: Unit) -> None:
        """Units are received."""
        self._units.extend(units)
        os.eventfd_write(self._fd, 1)

    def _join(self, stream: str, offer: str, *, publishes: bool) -> Answer:
        if offer == "malformed":
            raise SdpError("line 1: this is no SDP")
        if offer == "strange":
            raise NotAcceptable("no codec in common")
        number = next(self._numbers)
        self.alive[number] = (stream, publishes)
        return Answer(number, f"answer to {offer}", "ufrag")

    def _reset(self) -> None:
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:
            return


def unit(session: int, *, stream: str = "s", video: bool = True, at_ms: int = 0) -> Unit:
    """A unit without content."""
    rate = 90 if video else 48
    return Unit(
        stream=stream,
        session=session,
        video=video,
        at_ns=at_ms * 1_000_000,
        timestamp=at_ms * rate,
        keyframe=video,
        lost=False,
        data=b"x",
        sps=b"",
        pps=(),
    )
