"""An independent stack publishes and plays through the native plane: all ciphers, all media."""

import asyncio
import itertools
import json
import time

import aioice.ice
import pytest
from aiortc import rtcdtlstransport

from media._native import NotAcceptable, Overloaded, SdpError
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


@pytest.fixture(params=["AEAD_AES_128_GCM", "AEAD_AES_256_GCM", "AES128_CM_SHA1_80"])
def profile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Lets aiortc offer one SRTP profile alone."""
    name = str(request.param)
    only = [
        p
        for p in rtcdtlstransport.SRTP_PROFILES
        if p.openssl_profile.decode().removeprefix("SRTP_") == name
    ]
    assert only, "this aiortc does not know the profile"
    monkeypatch.setattr(rtcdtlstransport, "SRTP_PROFILES", only)
    return name


async def test_both_media_play_with_every_cipher(profile: str, pictures: list[bytes]) -> None:
    with Plane() as plane:
        async with Publisher(plane, "one") as publisher, Player(plane, "one") as player:
            await publisher.start(pictures)
            tracks = await eventually(
                lambda: plane.happened("tracks", publisher.session), what="tracks"
            )
            assert json.loads(tracks[0].detail)["video"] == "H264"
            assert json.loads(tracks[0].detail)["audio"] == "opus"
            await player.start()
            await eventually(
                lambda: player.frames["video"] > 30 and player.frames["audio"] > 40,
                what=f"both media decoded with {profile}: {player.frames}",
            )
            assert plane.total("drops_out") == plane.total("panics") == 0


async def test_streams_of_one_medium_play(pictures: list[bytes]) -> None:
    with Plane() as plane:
        async with Publisher(plane, "eyes") as eyes, Publisher(plane, "ears") as ears:
            await eyes.start(pictures, audio=False)
            await ears.start(None)
            for peer, medium in ((eyes, "video"), (ears, "audio")):
                news = await eventually(
                    lambda peer=peer: plane.happened("tracks", peer.session), what="tracks"
                )
                other = "audio" if medium == "video" else "video"
                assert json.loads(news[0].detail)[other] is None
                async with Player(plane, peer.stream) as player:
                    await player.start(video=medium == "video", audio=medium == "audio")
                    await eventually(
                        lambda p=player, m=medium: p.frames[m] > 20, what=f"{medium} plays"
                    )
                    assert player.frames[other] == 0


async def test_a_joiner_starts_from_the_current_pictures_without_a_key_frame(
    pictures: list[bytes],
) -> None:
    with Plane() as plane:
        async with Publisher(plane, "long") as publisher:
            await publisher.start(pictures)
            await eventually(
                lambda: publisher.session and plane.happened("tracks", publisher.session),
                what="media",
            )
            await eventually(lambda: plane.stream("long")["gop_packets"] > 120, what="a long group")
            before = plane.stream("long")["plis_out"]
            async with Player(plane, "long") as player:
                await player.start()
                await player.connected()
                since = time.monotonic()
                await eventually(lambda: player.frames["video"] > 0, what="a picture")
                assert player.first_frame_at["video"] - since < 1.0
                await eventually(lambda: player.frames["video"] > 90, what="more pictures")
                assert plane.stream("long")["plis_out"] == before
                video = player.sequences("video")
                pairs = list(itertools.pairwise(video))
                assert {(b.sequence - a.sequence) % 65536 for a, b in pairs} == {1}
                steps = [(b.timestamp - a.timestamp) % 2**32 for a, b in pairs]
                assert max(steps) < 90_000, "timestamps never go back and never jump"
                squeezed = [step for step in steps[:60] if step]
                assert max(squeezed) <= 3_000 // 64 + 1, "old pictures hurry"


async def test_a_restarted_publisher_is_not_noticed(pictures: list[bytes]) -> None:
    with Plane() as plane:
        async with Publisher(plane, "again") as first, Player(plane, "again") as player:
            await first.start(pictures)
            await eventually(lambda: plane.happened("tracks", first.session), what="media")
            await player.start()
            await eventually(lambda: player.frames["video"] > 10, what="pictures")
            async with Publisher(plane, "again") as second:
                await second.start(pictures)
                await eventually(lambda: plane.happened("tracks", second.session), what="takeover")
                closed = await eventually(
                    lambda: plane.happened("closed", first.session), what="the first is closed"
                )
                assert [event.detail for event in closed] == ["replaced"]
                seen = len(player.sequences("audio"))
                await eventually(
                    lambda: len(player.sequences("audio")) > seen + 50, what="it goes on"
                )
                for kind, second_ticks in (("video", 90_000), ("audio", 48_000)):
                    packets = player.sequences(kind)
                    assert len({p.ssrc for p in packets}) == 1
                    steps = [
                        ((b.sequence - a.sequence) % 65536, (b.timestamp - a.timestamp) % 2**32)
                        for a, b in itertools.pairwise(packets)
                    ]
                    assert sorted({s for s, _ in steps}) == [1, 2], "one number left out, once"
                    assert [s for s, _ in steps].count(2) == 1
                    assert max(t for _, t in steps) < 2 * second_ticks
                assert not plane.happened("closed", player.session)
            await eventually(
                lambda: plane.happened("closed", second.session), what="the second says goodbye"
            )


async def test_units_of_a_tapped_stream_are_dated_and_whole(pictures: list[bytes]) -> None:
    with Plane() as plane:
        plane.sfu.tap("tapped", on=True)
        async with Publisher(plane, "tapped") as publisher:
            began = time.time_ns()
            await publisher.start(pictures)
            await eventually(lambda: sum(u.video for u in plane.units) > 40, what="units")
            video = [u for u in plane.units if u.video]
            audio = [u for u in plane.units if not u.video]
            assert video[0].keyframe
            assert video[0].sps[0] & 31 == 7
            assert [p[0] & 31 for p in video[0].pps] == [8]
            assert not any(u.lost for u in plane.units)
            for units, hz in ((video, 90_000), (audio, 48_000)):
                assert began <= units[0].at_ns <= time.time_ns()
                ticks = units[-1].timestamp - units[0].timestamp
                elapsed_ns = units[-1].at_ns - units[0].at_ns
                # Dates follow the least delay yet seen, which a busy machine finds late.
                assert abs(ticks * 1_000_000_000 // hz - elapsed_ns) < 150_000_000
            for unit in video:
                at, kinds = 0, []
                while at < len(unit.data):
                    size = int.from_bytes(unit.data[at : at + 4], "big")
                    kinds.append(unit.data[at + 4] & 31)
                    at += 4 + size
                assert at == len(unit.data)
                assert not {7, 8, 9} & set(kinds)
            assert {u.session for u in plane.units} == {publisher.session}


async def test_what_cannot_be_served_is_refused_with_the_reason(pictures: list[bytes]) -> None:
    with Plane(sessions_max=1) as plane:
        with pytest.raises(SdpError):
            plane.sfu.publish("x", "this is no SDP")
        player = Player(plane, "nothing")
        with pytest.raises(NotAcceptable, match="nothing is published"):
            await player.start()
        await player.close()
        async with Publisher(plane, "full") as publisher:
            await publisher.start(pictures)
            second = Publisher(plane, "other")
            with pytest.raises(Overloaded, match="1 sessions"):
                await second.start(pictures)
            await second.close()
        await eventually(lambda: plane.total("sessions") == 0, what="the place is free")
        assert plane.sfu.streams() == []
        async with Publisher(plane, "full") as publisher:
            await publisher.start(pictures)


async def test_viewers_on_other_workers_get_the_same(pictures: list[bytes]) -> None:
    with Plane(workers=2) as plane:
        async with Publisher(plane, "wide") as publisher:
            await publisher.start(pictures)
            await eventually(lambda: plane.happened("tracks", publisher.session), what="media")
            await eventually(lambda: plane.stream("wide")["gop_packets"] > 30, what="a group")
            async with Player(plane, "wide") as one, Player(plane, "wide") as two:
                await one.start()
                await two.start()
                await asyncio.gather(
                    *(
                        eventually(lambda p=p: p.frames["video"] > 30, what="pictures")
                        for p in (one, two)
                    )
                )
                assert plane.stream("wide")["viewers"] == 2
                assert [row["sessions"] for row in plane.sfu.stats()] in ([2, 1], [1, 2])
                # both started at the key frame, so neither had to ask for one
                assert plane.stream("wide")["plis_out"] == 0


async def test_vp8_is_passed_through_and_a_change_of_codec_sends_viewers_away(
    pictures: list[bytes],
) -> None:
    with Plane() as plane:
        async with Publisher(plane, "vp8") as first, Player(plane, "vp8") as player:
            await first.start_vp8()
            news = await eventually(lambda: plane.happened("tracks", first.session), what="media")
            assert json.loads(news[0].detail)["video"] == "VP8"
            async with Player(plane, "vp8") as unable:
                with pytest.raises(NotAcceptable, match="VP8"):
                    await unable.start(codec="H264", audio=False)
            await eventually(lambda: plane.stream("vp8")["gop_packets"] > 10, what="a group")
            await player.start(codec="VP8", audio=False)
            await eventually(lambda: player.frames["video"] > 30, what="pictures")
            async with Publisher(plane, "vp8") as second:
                await second.start(pictures)
                closed = await eventually(
                    lambda: plane.happened("closed", player.session), what="it is sent away"
                )
                assert [event.detail for event in closed] == [
                    "failed: the stream has changed to H264"
                ]


async def test_a_viewer_without_retransmission_formats_still_gets_lost_packets(
    pictures: list[bytes],
) -> None:
    with Plane() as plane:
        async with Publisher(plane, "plain") as publisher, relay(plane, loss=0.1) as lossy:
            await publisher.start(pictures)
            await eventually(lambda: plane.happened("tracks", publisher.session), what="media")
            async with Player(plane, "plain", lossy.change) as player:
                await player.start(rtx=False)
                await eventually(lambda: player.frames["video"] > 150, what="pictures")
                assert plane.total("rtx_out") > 10
                video = player.sequences("video")
                got = {h.sequence for h in video[:-60]}
                assert max(got) - min(got) < 65_000
                assert len(got) >= (max(got) - min(got) + 1) * 0.95, "nearly all came back"
