"""The load-test clients against the plane: both ends ours, so every packet can be accounted for."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from media._native import Sfu, Swarm, send_floor

PATIENCE_SECONDS = 10.0
SPS = bytes([0x67, 0x42, 0xE0, 0x1F, 1, 2])
PPS = bytes([0x68, 0xCE, 6, 0xE2])
START = b"\0\0\0\1"
FRAME_MS = 40
FRAMES = 50
LOOP_MS = FRAMES * FRAME_MS

Units = list[tuple[bool, int, bool, bytes]]


def recording(*, key_every: int = 25) -> Units:
    """Two seconds of pictures that nobody can decode but everybody can count, and of Opus."""
    units: Units = []
    for n in range(FRAMES):
        key = n % key_every == 0
        slice_ = bytes([0x65 if key else 0x61, 0x88]) + bytes([n + 1]) * (9_000 if key else 2_500)
        sets = START + SPS + START + PPS if key else b""
        units.append((True, n * FRAME_MS, key, sets + START + slice_))
    units += [(False, ms, True, bytes([0xFC, ms % 251])) for ms in range(0, LOOP_MS, 20)]
    return units


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.005)


@contextmanager
def plane(address: str = "127.0.0.1") -> Iterator[tuple[Sfu, Swarm]]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    offered = f"[{address}]" if ":" in address else address
    with socket.socket(family, socket.SOCK_DGRAM) as bound:
        bound.bind((address, 0))
        sfu = Sfu(sockets=[bound.fileno()], addresses=[offered])
        swarm = Swarm(bind=address)
        try:
            yield sfu, swarm
        finally:
            swarm.stop()
            sfu.stop()


def publish(sfu: Sfu, swarm: Swarm, *, answer_pli: bool = True, key_every: int = 25) -> int:
    units = recording(key_every=key_every)
    client, offer = swarm.offer_publisher(units=units, loop_ms=LOOP_MS, answer_pli=answer_pli)
    swarm.answer(client, sfu.publish("s", offer).sdp)
    eventually(lambda: of(swarm, client)["frames"] > 0, "the publisher sends")
    eventually(lambda: any(s["keyframe_age_ms"] != -1 for s in sfu.streams()), "a key frame")
    return client


def view(sfu: Sfu, swarm: Swarm) -> int:
    client, offer = swarm.offer_viewer()
    swarm.answer(client, sfu.play("s", offer).sdp)
    return client


def of(swarm: Swarm, client: int) -> dict[str, int]:
    return next(stats for stats in swarm.stats() if stats["client"] == client)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_twenty_viewers_get_every_packet_once(address: str) -> None:
    with plane(address) as (sfu, swarm):
        publisher = publish(sfu, swarm)
        viewers = [view(sfu, swarm) for _ in range(20)]
        eventually(
            lambda: all(of(swarm, viewer)["frames"] > 60 for viewer in viewers), "sixty frames"
        )
        for stats in swarm.stats():
            if stats["client"] == publisher:
                continue
            assert stats["connected_us"] > 0
            assert stats["first_packet_us"] > 0
            assert stats["keyframes"] >= 2
            troubles = ("lost", "duplicates", "decrypt_errors", "index_repeats", "rtx")
            assert {name: stats[name] for name in troubles} == dict.fromkeys(troubles, 0)


def test_a_joiner_starts_from_the_current_pictures_without_asking_the_publisher() -> None:
    with plane() as (sfu, swarm):
        publisher = publish(sfu, swarm, answer_pli=False, key_every=FRAMES)
        eventually(lambda: of(swarm, publisher)["frames"] > 10, "some pictures")
        sent = of(swarm, publisher)["frames"]
        viewer = view(sfu, swarm)
        eventually(lambda: of(swarm, viewer)["frames"] >= sent, "all pictures since the key frame")
        assert of(swarm, viewer)["keyframes"] == 1
        assert of(swarm, publisher)["plis_received"] == 0


def test_a_request_for_a_key_frame_brings_the_next_one_forward() -> None:
    with plane() as (sfu, swarm):
        publisher = publish(sfu, swarm, key_every=FRAMES)
        eventually(lambda: of(swarm, publisher)["frames"] > 3, "some pictures")
        assert sfu.keyframe("s")
        eventually(lambda: of(swarm, publisher)["plis_received"] > 0, "it is asked")
        eventually(lambda: of(swarm, publisher)["keyframes"] > 1, "it obeys")
        assert of(swarm, publisher)["frames"] < FRAMES


def test_viewers_do_not_notice_that_another_publisher_takes_over() -> None:
    with plane() as (sfu, swarm):
        first = publish(sfu, swarm)
        viewer = view(sfu, swarm)
        eventually(lambda: of(swarm, viewer)["frames"] > 10, "pictures")
        swarm.close(first)
        second = publish(sfu, swarm)
        seen = of(swarm, viewer)["frames"]
        eventually(lambda: of(swarm, viewer)["frames"] > seen + 30, "more pictures")
        stats = of(swarm, viewer)
        assert (stats["decrypt_errors"], stats["index_repeats"], stats["duplicates"]) == (0, 0, 0)
        assert of(swarm, second)["frames"] > 0


def test_units_come_out_of_the_tap_as_they_went_in() -> None:
    with plane() as (sfu, swarm):
        sfu.tap("s", on=True)
        publish(sfu, swarm)
        units = sfu.units()

        def enough() -> bool:
            units.extend(sfu.units())
            return sum(unit.video for unit in units) >= 40

        eventually(enough, "forty pictures")
        pictures = [unit for unit in units if unit.video]
        assert not any(unit.lost for unit in units)
        assert (pictures[0].sps, pictures[0].pps) == (SPS, (PPS,))
        for n, unit in enumerate(pictures):
            key = n % 25 == 0
            slice_ = bytes([0x65 if key else 0x61, 0x88])
            slice_ += bytes([n % FRAMES + 1]) * (9_000 if key else 2_500)
            assert unit.data == len(slice_).to_bytes(4, "big") + slice_
            assert unit.keyframe == key


def test_a_closed_viewer_is_gone_from_the_plane_at_once() -> None:
    with plane() as (sfu, swarm):
        publish(sfu, swarm)
        viewer = view(sfu, swarm)
        eventually(lambda: of(swarm, viewer)["frames"] > 0, "pictures")
        swarm.close(viewer)
        eventually(lambda: len(sfu.sessions()) == 1, "the goodbye is heard")


def test_stamped_pictures_tell_how_long_they_took_to_every_viewer() -> None:
    with plane() as (sfu, swarm):
        elsewhere = Swarm()
        client, offer = elsewhere.offer_publisher(units=recording(), loop_ms=LOOP_MS, stamp=True)
        elsewhere.answer(client, sfu.publish("s", offer).sdp)
        eventually(lambda: any(s["keyframe_age_ms"] != -1 for s in sfu.streams()), "a key frame")
        viewers = [view(sfu, swarm) for _ in range(3)]
        eventually(lambda: all(of(swarm, v)["frames"] > 20 for v in viewers), "pictures")
        swarm.latency(reset=True)
        before = sum(of(swarm, viewer)["frames"] for viewer in viewers)
        eventually(lambda: sum(n for _, n in swarm.latency()) >= 60, "sixty more")
        counts = swarm.latency()
        seen = sum(of(swarm, viewer)["frames"] for viewer in viewers) - before
        assert sum(n for _, n in counts) <= seen <= sum(n for _, n in counts) + 6
        assert [us for us, _ in counts] == sorted({us for us, _ in counts})
        assert 20 < counts[0][0] < 20_000
        elsewhere.stop()


def test_an_unstamped_picture_has_no_latency() -> None:
    with plane() as (sfu, swarm):
        publish(sfu, swarm)
        viewer = view(sfu, swarm)
        eventually(lambda: of(swarm, viewer)["frames"] > 20, "pictures")
        assert swarm.latency() == []
        assert [stats["client"] for stats in swarm.stats(viewer)] == [viewer]
        assert of(swarm, viewer)["server_port"] > 0
        assert swarm.stats(99) == []


def test_the_kernels_floor_loses_nothing() -> None:
    floor = send_floor(packets=3_000, sinks=10)
    assert 3_000 <= floor["packets"] < 3_100
    assert floor["lost"] == 0
    assert 200 < floor["cpu_ns"] / floor["packets"] < 200_000
    with pytest.raises(ValueError, match="sinks"):
        send_floor(packets=10, sinks=0)


def test_wrong_input_is_a_value_error() -> None:
    swarm = Swarm()
    with pytest.raises(ValueError, match="no client 7"):
        swarm.close(7)
    with pytest.raises(ValueError, match="units"):
        swarm.offer_publisher(units=[], loop_ms=10)
    client, _ = swarm.offer_viewer()
    with pytest.raises(ValueError, match="line 1"):
        swarm.answer(client, "no description")
    swarm.stop()
    swarm.stop()
    with pytest.raises(ValueError, match="stopped"):
        swarm.offer_viewer()
    with pytest.raises(ValueError, match="address"):
        Swarm(bind="nowhere")
