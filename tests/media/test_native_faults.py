"""The native plane when things go wrong: loss on either side, silence, goodbyes, garbage, IPv6."""

import asyncio
import random
import socket

import aioice.ice
import pytest

from media._native import Sfu
from tests.fakes.rtc_peers import (
    Plane,
    Player,
    Publisher,
    encoded_pictures,
    eventually,
    relay,
)


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda **_: ["127.0.0.1"])


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    return encoded_pictures(seconds=20)


async def on_air(plane: Plane, publisher: Publisher) -> None:
    await eventually(lambda: plane.happened("tracks", publisher.session), what="media")


async def test_what_a_viewer_loses_is_sent_again(pictures: list[bytes]) -> None:
    with Plane() as plane:
        async with Publisher(plane, "loss") as publisher, relay(plane, loss=0.05) as lossy:
            await publisher.start(pictures)
            await on_air(plane, publisher)
            async with Player(plane, "loss", lossy.change) as player:
                await player.start()
                await eventually(lambda: player.frames["video"] > 150, what="pictures")
                assert lossy.lost > 20
                assert plane.total("rtx_out") > 10
                await eventually(
                    lambda: any(row["lost"] for row in plane.sfu.sessions()), what="it reports loss"
                )
            assert plane.total("panics") == 0


async def test_what_a_publisher_loses_is_asked_for_and_recovered(pictures: list[bytes]) -> None:
    with Plane() as plane:
        plane.sfu.tap("loss", on=True)
        async with (
            relay(plane, loss=0.05) as lossy,
            Publisher(plane, "loss", lossy.change) as publisher,
        ):
            await publisher.start(pictures)
            await eventually(lambda: sum(u.video for u in plane.units) > 150, what="units")
            assert lossy.lost > 20
            assert plane.total("nacks_out") > 10
            row = plane.sfu.sessions()[0]
            assert row["rtx"] > 0
            assert 0 <= int(str(row["rtt_ms"])) < 1_000
            assert plane.stream("loss")["rtt_ms"] == row["rtt_ms"]
            video = [u for u in plane.units if u.video]
            assert sum(u.lost for u in video) <= len(video) // 50, "nearly all came back"
            assert [u.timestamp for u in video] == sorted({u.timestamp for u in video})


async def test_a_peer_that_falls_silent_is_closed_once(pictures: list[bytes]) -> None:
    with Plane(silence_ms=1_500) as plane:
        async with Publisher(plane, "quiet") as publisher, relay(plane, loss=0) as line:
            await publisher.start(pictures)
            await on_air(plane, publisher)
            async with Player(plane, "quiet", line.change) as player:
                await player.start()
                await player.connected()
                await eventually(lambda: player.frames["video"] > 0, what="pictures")
                line.close()
                closed = await eventually(
                    lambda: plane.happened("closed", player.session), what="it is noticed"
                )
                assert [event.detail for event in closed] == ["silent"]
                assert plane.sfu.close(player.session) is False
        await eventually(lambda: plane.total("sessions") == 0, what="all have gone")
        assert len(plane.happened("closed", player.session)) == 1


async def test_a_handshake_that_does_not_come_is_given_up(pictures: list[bytes]) -> None:
    with Plane(handshake_ms=500) as plane:

        async def nowhere(sdp: str) -> str:
            return sdp.replace(f" {plane.port} ", " 9 ")

        async with Publisher(plane, "never", nowhere) as publisher:
            starting = asyncio.ensure_future(publisher.start(pictures))
            await eventually(lambda: plane.events, what="it is given up")
            starting.cancel()
            assert [event[2:] for event in plane.events] == [("closed", "handshake timed out")]


async def test_closing_and_goodbyes(pictures: list[bytes]) -> None:
    with Plane() as plane:
        async with Publisher(plane, "bye") as publisher:
            await publisher.start(pictures)
            await on_air(plane, publisher)
            leaving, kicked = Player(plane, "bye"), Player(plane, "bye")
            for player in (leaving, kicked):
                await player.start()
                await player.connected()
            await leaving.close()
            closed = await eventually(
                lambda: plane.happened("closed", leaving.session), what="it has left"
            )
            assert [event.detail for event in closed] == ["peer said goodbye"]
            assert plane.sfu.close(kicked.session, "kicked") is True
            closed = await eventually(
                lambda: plane.happened("closed", kicked.session), what="it is out"
            )
            assert [event.detail for event in closed] == ["kicked"]
            await kicked.close()
            assert plane.sfu.close(kicked.session) is False
            assert plane.sfu.keyframe("bye") is True
        await eventually(lambda: plane.happened("closed", publisher.session), what="over")
        assert plane.sfu.keyframe("bye") is False


async def test_garbage_harms_nobody(pictures: list[bytes]) -> None:
    noise = random.Random(3)
    with Plane() as plane:
        async with Publisher(plane, "noise") as publisher, Player(plane, "noise") as player:
            await publisher.start(pictures)
            await on_air(plane, publisher)
            await player.start()
            await eventually(lambda: player.frames["video"] > 0, what="pictures")
            stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            # also from the publisher's own address, as who can write its source address could
            ice = publisher.pc.getTransceivers()[0].sender.transport.transport
            insider = ice._connection
            for i in range(300):
                kind = noise.choice([0, 1, 20, 22, 64, 128, 144, 191, 255])
                junk = bytes([kind]) + noise.randbytes(noise.choice([0, 1, 7, 11, 40, 900, 1_400]))
                if i % 2:
                    stranger.sendto(junk, ("127.0.0.1", plane.port))
                else:
                    await insider.send(junk)
            stranger.sendto(bytes(2_500), ("127.0.0.1", plane.port))
            stranger.close()
            before = player.frames["video"]
            await eventually(lambda: player.frames["video"] > before + 60, what="it goes on")
            assert plane.total("dropped_in") > 200
            assert plane.total("panics") == 0
            assert not plane.happened("closed", player.session)
            assert not plane.happened("closed", publisher.session)


async def test_ipv6_works(pictures: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda **_: ["::1"])
    with Plane(address="::1") as plane:
        async with Publisher(plane, "six") as publisher, Player(plane, "six") as player:
            await publisher.start(pictures)
            await on_air(plane, publisher)
            await player.start()
            await eventually(lambda: player.frames["video"] > 20, what="pictures")
            assert {str(row["remote"])[:5] for row in plane.sfu.sessions()} == {"[::1]"}


async def test_stopping_says_goodbye_and_leaves_nothing(pictures: list[bytes]) -> None:
    with Plane(workers=2) as plane:
        async with Publisher(plane, "stop") as publisher, Player(plane, "stop") as player:
            await publisher.start(pictures)
            await on_air(plane, publisher)
            await player.start()
            await player.connected()
            plane.sfu.stop()
            plane.sfu.stop()
            plane.drain()
            for session in (publisher.session, player.session):
                closed = plane.happened("closed", session)
                assert [event.detail for event in closed] == ["stopped"]
            assert plane.sfu.sessions() == []
            assert plane.sfu.close(player.session) is False


def test_nonsense_at_the_start_is_refused() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        with pytest.raises(ValueError, match="not an address"):
            Sfu(sockets=[sock.fileno()], addresses=["localhost"])
        with pytest.raises(ValueError, match="sockets"):
            Sfu(sockets=[], addresses=["127.0.0.1"])
        with pytest.raises(OSError, match="descriptor"):
            Sfu(sockets=[-1], addresses=["127.0.0.1"])
