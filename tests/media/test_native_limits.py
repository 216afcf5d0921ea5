"""Limits of the packet plane as a foreign peer meets them: it stays connected, and gets less."""

import socket

import aioice.ice
import pytest

from media._native import Overloaded, Swarm
from tests.fakes.rtc_peers import Plane, Publisher, encoded_pictures, eventually
from tests.hostile.mutations import captured


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda **_: ["127.0.0.1"])


@pytest.mark.parametrize(
    "limit",
    [{"publisher_packets_per_second_max": 20}, {"publisher_bits_per_second_max": 20_000}],
    ids=str,
)
async def test_a_publisher_above_its_rate_loses_packets_and_nothing_else(
    limit: dict[str, int],
) -> None:
    with Plane(**limit) as plane:
        async with Publisher(plane, "show") as publisher:
            await publisher.start(encoded_pictures(seconds=1))
            await eventually(
                lambda: plane.total("packets_limited") > 20, what="packets are dropped"
            )
            before = plane.stream("show")["packets_in"]
            await eventually(
                lambda: plane.stream("show")["packets_in"] > before, what="others pass"
            )
            assert not plane.happened("closed", publisher.session)


async def test_more_sessions_than_may_connect_at_once_are_refused_until_one_is_gone() -> None:
    swarm = Swarm()
    with Plane(handshakes_max=1) as plane:
        _, offer = swarm.offer_publisher(units=[(False, 0, True, b"\xfc\xff\xfe")], loop_ms=20)
        first = plane.sfu.publish("one", offer)
        with pytest.raises(Overloaded) as refused:
            plane.sfu.publish("two", offer)
        assert refused.value.args == ("1 sessions are connecting already", "handshakes")
        assert plane.sfu.close(first.session)
        await eventually(lambda: plane.happened("closed", first.session), what="it is gone")
        await eventually(lambda: _opens(plane, offer), what="there is room again")
    swarm.stop()


def _opens(plane: Plane, offer: str) -> bool:
    try:
        plane.sfu.publish("two", offer)
    except Overloaded:
        return False
    return True


async def test_strangers_are_not_answered() -> None:
    with Plane() as plane, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.settimeout(0)
        for data in captured():
            stranger.sendto(data, ("127.0.0.1", plane.port))
        await eventually(lambda: plane.total("packets_in") >= len(captured()), what="all is read")
        assert plane.total("packets_out") == 0
        with pytest.raises(BlockingIOError):
            stranger.recv(2_048)
