"""The plane on a real event loop: its eventfd, its threads, its order of news."""

import asyncio
from collections.abc import Callable, Iterator, Sequence

import pytest

from media import errors
from media._native import Answer, Event, Overloaded, Unit
from media.plane import Plane
from tests.fakes.native import FakeSfu, unit


class Ear:
    """Remembers what it hears; raises for the stream named in `broken`."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.faults: list[str] = []
        self.broken = ""

    def handle_event(self, event: Event) -> None:
        self.heard.append(event.kind)

    def handle_units(self, stream: str, units: Sequence[Unit]) -> None:
        if stream == self.broken:
            raise ZeroDivisionError
        self.heard.append(f"{len(units)} of {stream}")

    def handle_fault(self, stream: str) -> None:
        self.faults.append(stream)


@pytest.fixture
def sfu() -> Iterator[FakeSfu]:
    with FakeSfu() as made:
        yield made


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110  polls with a deadline
            await asyncio.sleep(0.001)


async def test_events_and_units_are_handed_out_in_order(sfu: FakeSfu) -> None:
    ear, plane = Ear(), Plane(sfu)
    plane.listen(ear)
    async with plane:
        sfu.tell(1, "s", "closed", "bye")
        sfu.tell(2, "s", "connected")
        sfu.give(unit(1), unit(2), unit(3, stream="t"))
        await _until(lambda: len(ear.heard) == 4)
    assert ear.heard == ["connected", "2 of s", "1 of t", "closed"]
    assert sfu.stopped


async def test_one_streams_bug_does_not_stop_the_others(sfu: FakeSfu) -> None:
    ear, plane = Ear(), Plane(sfu)
    ear.broken = "s"
    plane.listen(ear)
    async with plane:
        sfu.give(unit(1), unit(2, stream="t"))
        await _until(lambda: len(ear.heard) == 1)
    assert ear.heard == ["1 of t"]
    assert ear.faults == ["s"]


async def test_native_refusals_become_ours(sfu: FakeSfu, monkeypatch: pytest.MonkeyPatch) -> None:
    plane = Plane(sfu)
    plane.listen(Ear())
    async with plane:
        with pytest.raises(errors.BadOffer, match="line 1"):
            await plane.publish("s", offer="malformed")
        with pytest.raises(errors.NoCommonCodec):
            await plane.play("s", offer="strange")

        def full(_stream: str, _offer: str) -> Answer:
            raise Overloaded("5000 sessions", "sessions")

        monkeypatch.setattr(sfu, "publish", full)
        with pytest.raises(errors.Overloaded) as refused:
            await plane.publish("s", offer="offer")
        assert refused.value.retry_after_seconds > 0
        assert refused.value.limit == "sessions"


async def test_what_waits_to_be_set_up_is_limited(sfu: FakeSfu) -> None:
    plane = Plane(sfu, waiting_max=2)
    plane.listen(Ear())
    async with plane:
        results = await asyncio.gather(
            *(plane.publish("s", offer="offer") for _ in range(5)), return_exceptions=True
        )
    refused = [r for r in results if isinstance(r, errors.Overloaded)]
    assert len(refused) == 3
    assert len(sfu.alive) == 2
