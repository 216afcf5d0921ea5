"""A stream's life as edge workers are told of it, over a plane without packets."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from media import errors
from media.live_stream import TURNS, LiveStream, State
from media.messages import Grant, StreamChanged
from media.plane import Plane
from media.sessions import Session
from media.streams import EXPIRED, Streams
from media.webrtc_settings import WebrtcSettings
from tests.fakes.clock import FakeClock
from tests.fakes.native import FakeSfu, unit
from tests.fakes.writer import FakeWriter

GRANT = Grant("tester", ("publish", "read"))
H264 = json.dumps({"video": "H264", "audio": "opus"})
LINGER_SECONDS = 60.0


@dataclass
class House:
    """Streams over a fake plane; what was told of them."""

    sfu: FakeSfu
    root: Path
    clock: FakeClock = field(default_factory=FakeClock)
    settings: WebrtcSettings = field(default_factory=WebrtcSettings)
    told: list[StreamChanged] = field(default_factory=list)
    woken: list[str] = field(default_factory=list)
    writers: list[FakeWriter] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.plane = Plane(self.sfu)
        self.streams = Streams(
            self.plane,
            self,
            root=self.root,
            make_writer=self._writer,
            webrtc=self.settings,
            linger_seconds=LINGER_SECONDS,
            clock=self.clock,
        )
        self.plane.listen(self.streams)

    def stream_changed(self, changed: StreamChanged) -> None:
        self.told.append(changed)

    def hls_changed(self, stream: str) -> None:
        self.woken.append(stream)

    def _writer(self, stream: str) -> FakeWriter:
        self.writers.append(FakeWriter(stream))
        return self.writers[-1]

    async def publish(self, stream: str = "s", offer: str = "offer") -> Session:
        session, _ = await self.streams.publish(stream, offer=offer, grant=GRANT)
        return session

    async def on_air(self, stream: str = "s", tracks: str = H264) -> Session:
        session = await self.publish(stream)
        self.sfu.tell(session.native, stream, "connected")
        self.sfu.tell(session.native, stream, "tracks", tracks)
        self.plane.drain()
        return session

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.streams.tick()
        self.plane.drain()

    @property
    def states(self) -> list[str]:
        return [changed.state for changed in self.told]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with FakeSfu() as sfu:
        yield House(sfu, tmp_path)


async def test_a_stream_is_told_of_once_its_media_has_come(house: House) -> None:
    session = await house.publish()
    assert house.told == []
    with pytest.raises(errors.NotLive):
        await house.streams.play("s", offer="offer", grant=GRANT)
    house.sfu.tell(session.native, "s", "tracks", H264)
    house.plane.drain()
    (changed,) = house.told
    assert (changed.state, changed.publisher) == ("live", session.id)
    assert (changed.video, changed.audio, changed.hls) == ("H264", "opus", True)
    viewer, answer = await house.streams.play("s", offer="offer", grant=GRANT)
    assert viewer.id != session.id
    assert answer.sdp == "answer to offer"


async def test_units_of_the_publisher_on_air_reach_the_writer_and_wake_workers(
    house: House,
) -> None:
    session = await house.on_air()
    house.sfu.give(unit(session.native), unit(session.native + 99))
    house.plane.drain()
    assert [u.session for u in house.writers[0].pushed] == [session.native]
    assert house.woken == ["s"]


async def test_last_units_come_before_the_end_of_their_session(house: House) -> None:
    session = await house.on_air()
    house.sfu.close(session.native)
    house.sfu.give(unit(session.native))
    house.plane.drain()
    assert len(house.writers[0].pushed) == 1
    assert house.writers[0].calls == ["lost"]


async def test_a_lost_publisher_leaves_the_stream_waiting_and_then_gone(house: House) -> None:
    session = await house.on_air()
    viewer, _ = await house.streams.play("s", offer="offer", grant=GRANT)
    (house.root / "s").mkdir()
    house.sfu.close(session.native, "silent")
    house.plane.drain()
    assert house.states == ["live", "waiting"]
    with pytest.raises(errors.NotLive) as refused:
        await house.streams.play("s", offer="offer", grant=GRANT)
    assert refused.value.retry_after_seconds == 2
    house.pass_time(LINGER_SECONDS - 1)
    assert house.states == ["live", "waiting"]
    house.pass_time(2)
    assert house.states == ["live", "waiting", "gone"]
    assert house.writers[0].calls == ["lost", "end", "close"]
    assert (viewer.native, "stream is gone") in house.sfu.closed
    assert len(house.streams) == len(house.streams.sessions) == 0
    assert (house.root / "s").is_dir()
    house.pass_time(LINGER_SECONDS + 1)
    assert not (house.root / "s").exists()


async def test_a_publisher_that_comes_back_goes_on_with_the_same_writer(house: House) -> None:
    first = await house.on_air()
    house.sfu.close(first.native, "silent")
    house.plane.drain()
    house.pass_time(30)
    second = await house.on_air()
    assert house.states == ["live", "waiting", "live"]
    assert house.told[-1].publisher == second.id
    assert len(house.writers) == 1


async def test_the_newest_publisher_replaces_without_a_gap(house: House) -> None:
    first = await house.on_air()
    second = await house.publish()
    house.sfu.close(first.native, "replaced")
    house.plane.drain()
    house.pass_time(0.5)
    house.sfu.tell(second.native, "s", "tracks", H264)
    house.plane.drain()
    assert set(house.states) == {"live"}
    assert house.told[-1].publisher == second.id
    assert house.writers[0].calls == []


async def test_a_replaced_publisher_whose_successor_never_comes_is_lost(house: House) -> None:
    first = await house.on_air()
    house.sfu.close(first.native, "replaced")
    house.plane.drain()
    house.pass_time(1.5)
    assert house.states[-1] == "waiting"


async def test_takeover_can_be_refused(tmp_path: Path) -> None:
    with FakeSfu() as sfu:
        house = House(sfu, tmp_path, settings=WebrtcSettings(takeover="refuse"))
        await house.on_air()
        with pytest.raises(errors.AlreadyPublished):
            await house.publish()


async def test_offers_are_refused_by_kind_and_leave_nothing(house: House) -> None:
    with pytest.raises(errors.BadOffer, match="line 1"):
        await house.publish(offer="malformed")
    with pytest.raises(errors.NoCommonCodec):
        await house.publish(offer="strange")
    with pytest.raises(errors.BadName):
        await house.publish("../up")
    assert len(house.streams) == 0
    assert house.sfu.taps == {"s": False}


async def test_a_publisher_that_never_connects_leaves_nothing(house: House) -> None:
    session = await house.publish()
    house.sfu.close(session.native, "handshake timed out")
    house.plane.drain()
    assert len(house.streams) == len(house.streams.sessions) == 0
    assert house.told == []


async def test_streams_are_limited(tmp_path: Path) -> None:
    with FakeSfu() as sfu:
        house = House(sfu, tmp_path, settings=WebrtcSettings(streams_max=1))
        await house.on_air("one")
        with pytest.raises(errors.Overloaded):
            await house.publish("two")


@pytest.mark.parametrize(
    ("tracks", "reason"),
    [
        ({"video": "VP8", "audio": "opus"}, "HLS needs H.264 video, and this publisher sends VP8."),
        ({"video": None, "audio": None}, "neither"),
    ],
)
async def test_a_codec_without_hls_is_said_so(
    house: House, tracks: dict[str, str], reason: str
) -> None:
    await house.on_air(tracks=json.dumps(tracks))
    assert not house.told[-1].hls
    assert reason in house.told[-1].hls_reason
    assert house.sfu.taps["s"] is False
    assert house.writers == []


async def test_a_failed_takeover_leaves_the_tap_as_it_was(house: House) -> None:
    await house.on_air(tracks=json.dumps({"video": "VP8", "audio": "opus"}))
    second = await house.publish()
    assert house.sfu.taps["s"] is True
    house.sfu.close(second.native, "handshake timed out")
    house.plane.drain()
    assert house.sfu.taps["s"] is False
    assert house.states == ["live"]


async def test_sound_alone_has_hls(house: House) -> None:
    await house.on_air(tracks=json.dumps({"video": None, "audio": "opus"}))
    assert house.told[-1].hls
    assert (house.told[-1].width, house.told[-1].height) == (0, 0)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("a bug")])
async def test_broken_packaging_stops_hls_alone(house: House, error: Exception) -> None:
    session = await house.on_air()
    house.writers[0].error = error
    house.sfu.give(unit(session.native))
    house.plane.drain()
    assert house.told[-1].state == "live"
    assert not house.told[-1].hls
    assert house.told[-1].hls_reason
    await house.streams.play("s", offer="offer", grant=GRANT)


async def test_a_hungry_writer_has_the_publisher_asked_for_a_key_frame(house: House) -> None:
    await house.on_air()
    house.writers[0].hungry = True
    house.pass_time(0.1)
    assert house.sfu.keyframes == ["s"]


async def test_asking_nobody_for_a_key_frame_is_refused(house: House) -> None:
    with pytest.raises(errors.UnknownStream):
        house.streams.ask_keyframe("s")


async def test_a_session_is_closed_once_and_only_under_its_stream(house: House) -> None:
    session = await house.on_air()
    with pytest.raises(errors.UnknownSession):
        house.streams.close(session.id, stream="other")
    house.streams.close(session.id, stream="s")
    with pytest.raises(errors.UnknownSession):
        house.streams.close(session.id, stream="s")
    house.plane.drain()
    assert house.states[-1] == "waiting"


async def test_a_session_ends_with_its_grant(house: House) -> None:
    grant = Grant("guest", ("publish",), expires_unix=house.clock.unix() + 10)
    session, _ = await house.streams.publish("s", offer="offer", grant=grant)
    house.pass_time(9)
    assert house.sfu.closed == []
    house.pass_time(2)
    assert house.sfu.closed == [(session.native, EXPIRED)]
    assert len(house.streams.sessions) == 0


async def test_an_event_may_overtake_the_answer_it_belongs_to(house: House) -> None:
    house.sfu.tell(1, "s", "tracks", H264)
    house.plane.drain()
    await house.publish()
    assert house.states == ["live"]


async def test_sessions_come_in_pages(house: House) -> None:
    await house.on_air()
    for _ in range(4):
        await house.streams.play("s", offer="offer", grant=GRANT)
    first, more = await house.streams.page(stream="s", after="", limit=3)
    rest, over = await house.streams.page(stream="s", after=first[-1].session, limit=3)
    ids = [info.session for info in (*first, *rest)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 5
    assert (more, over) == (True, False)
    assert {info.packets for info in first} == {7}
    assert first[0].remote_ufrag == "ufrag"
    assert await house.streams.page(stream="other", after="", limit=3) == ((), False)


async def test_figures_are_told_once_a_second_and_only_when_they_change(house: House) -> None:
    await house.on_air()
    viewer, _ = await house.streams.play("s", offer="offer", grant=GRANT)
    house.sfu.tell(viewer.native, "s", "connected")
    house.plane.drain()
    house.streams.count_hls_viewers("link 1", {"s": 2})
    house.streams.count_hls_viewers("link 2", {"s": 3, "unknown": 4})
    house.sfu.rows = [{"stream": "s", "bytes_in": 0, "keyframe_age_ms": 5, "lost_in": 1}]
    await house.streams.renew()
    house.clock.advance(2)
    house.sfu.rows[0]["bytes_in"] = 250_000
    await house.streams.renew()
    last = house.told[-1]
    assert (last.viewers_webrtc, last.viewers_hls) == (1, 5)
    assert (last.bits_per_second, last.keyframe_age_ms, last.lost) == (1_000_000, 5, 1)
    count = len(house.told)
    house.clock.advance(1)
    house.sfu.rows[0]["bytes_in"] = 375_000
    await house.streams.renew()
    assert len(house.told) == count
    house.clock.advance(11)
    await house.streams.renew()
    assert house.told[-1].viewers_hls == 0


async def test_what_a_dead_process_left_goes_on_and_then_ends(house: House) -> None:
    (house.root / "s").mkdir()
    (house.root / ".hidden").mkdir()
    house.streams.find_leftovers()
    assert [changed.state for changed in house.streams.public()] == ["waiting"]
    assert house.streams.public()[0].hls
    house.pass_time(LINGER_SECONDS + 1)
    assert house.writers[0].calls == ["lost", "end", "close"]


async def test_a_leftover_that_cannot_be_read_is_removed(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()

    def broken(_: str) -> FakeWriter:
        raise ValueError("not a journal")

    with FakeSfu() as sfu:
        house = House(sfu, tmp_path)
        house._writer = broken  # type: ignore[method-assign]
        house.__post_init__()
        house.streams.find_leftovers()
        assert house.streams.public() == []
        house.pass_time(LINGER_SECONDS + 1)
        assert not (tmp_path / "s").exists()


def test_a_turn_that_the_table_lacks_names_state_and_turn() -> None:
    stream = LiveStream("s", make_writer=FakeWriter, linger_seconds=1, unix=0)
    with pytest.raises(AssertionError, match="lingered while new"):
        stream.end(0)
    assert set(TURNS) == set(State)


async def test_sessions_of_one_address_and_of_one_key_are_limited(house: House) -> None:
    await house.on_air()
    near = Grant("studio", ("read",), 0.0, "192.0.2.1", 2, 3)
    far = Grant("studio", ("read",), 0.0, "192.0.2.2", 2, 3)
    stranger = Grant("other", ("read",), 0.0, "192.0.2.2", 2, 3)

    async def play(grant: Grant, offer: str = "offer") -> Session:
        return (await house.streams.play("s", offer=offer, grant=grant))[0]

    first = await play(near)
    with pytest.raises(errors.BadOffer):
        await play(near, "malformed")
    second = await play(near)
    with pytest.raises(errors.TooManySessions, match="one address may hold 2"):
        await play(near)
    with pytest.raises(errors.TooManySessions):
        await house.streams.publish("other", offer="offer", grant=near)
    assert len(house.streams) == 1
    await play(far)
    with pytest.raises(errors.TooManySessions, match="one key may hold 3"):
        await play(far)
    await play(stranger)
    for session in (first, second):
        house.streams.close(session.id)
        house.plane.drain()
    await play(near)
    await play(near, "offer")
    with pytest.raises(errors.TooManySessions):
        await play(near)
