"""Media's end of a link, over a real SEQPACKET pair."""

import asyncio
import socket
from collections.abc import Callable, Iterator

import pytest

from media.edge_link import EdgeLink
from media.messages import (
    AskKeyFrame,
    Done,
    EdgeMessage,
    Hello,
    HlsChanged,
    MediaMessage,
    Ready,
    StreamChanged,
    decode_from_media,
    encode,
)

NOT_UTF8 = b"\x82\xa4type\xa5Hello\xa4\xacoot\xa1x"
"""A field's name that is no text: another error of the decoder."""


def news(stream: str, viewers: int = 0) -> StreamChanged:
    return StreamChanged(
        stream=stream,
        state="live",
        since_unix=0,
        publisher="",
        video="H264",
        audio="opus",
        width=0,
        height=0,
        hls=True,
        hls_reason="",
        viewers_webrtc=viewers,
        viewers_hls=0,
        bits_per_second=0,
        keyframe_age_ms=-1,
        lost=0,
    )


class Worker:
    """The edge worker's end, blocking, and what media made of it."""

    def __init__(self) -> None:
        media, self.socket = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.media_socket = media
        self.socket.setblocking(False)  # noqa: FBT003  its only parameter
        self.requests: list[EdgeMessage] = []
        self.greetings = 0
        self.link = EdgeLink(media, boot="media-1", handle=self._handle, greeted=self._greeted)

    def _handle(self, _link: EdgeLink, message: EdgeMessage) -> None:
        self.requests.append(message)

    def _greeted(self, link: EdgeLink) -> None:
        self.greetings += 1
        link.ready()

    def say(self, message: EdgeMessage) -> None:
        self.socket.send(encode(message))

    def read(self) -> list[MediaMessage]:
        found = []
        while True:
            try:
                found.append(decode_from_media(self.socket.recv(262_144)))
            except BlockingIOError:
                return found

    async def greet(self, boot: str = "edge-1") -> None:
        before = self.greetings
        self.say(Hello(boot, "edge"))
        await until(lambda: self.greetings > before)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110  polls with a deadline
            await asyncio.sleep(0.001)


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker()
    yield made
    made.socket.close()
    made.media_socket.close()


async def test_media_greets_first_and_answers_a_greeting(worker: Worker) -> None:
    worker.link.open()
    assert worker.read() == [Hello("media-1", "media")]
    await worker.greet()
    assert worker.read() == [Hello("media-1", "media"), Ready()]
    await worker.greet()
    assert worker.read() == [Ready()]
    worker.link.close()


async def test_requests_before_a_greeting_were_not_meant_for_us(worker: Worker) -> None:
    worker.say(AskKeyFrame(1, "s"))
    worker.link.open()
    await worker.greet()
    worker.say(AskKeyFrame(2, "s"))
    await until(lambda: bool(worker.requests))
    assert worker.requests == [AskKeyFrame(2, "s")]
    worker.link.close()


async def test_what_was_owed_to_a_dead_worker_is_forgotten(worker: Worker) -> None:
    worker.link.open()
    await worker.greet("edge-1")
    await worker.greet("edge-2")
    worker.read()
    worker.link.reply(Done(7), peer="edge-1")
    worker.link.reply(Done(8), peer="edge-2")
    assert worker.read() == [Done(8)]
    worker.link.close()


async def test_garbage_is_ignored(worker: Worker) -> None:
    worker.link.open()
    await worker.greet()
    for garbage in (b"\x00", b"\xff" * 1000, encode(Done(1)), b"\x81\xa4type", NOT_UTF8):
        worker.socket.send(garbage)
    worker.say(AskKeyFrame(3, "s"))
    await until(lambda: bool(worker.requests))
    assert worker.requests == [AskKeyFrame(3, "s")]
    worker.link.close()


async def test_a_worker_that_does_not_read_gets_the_newest_news_and_every_reply(
    worker: Worker,
) -> None:
    worker.link.open()
    await worker.greet()
    for turn in range(3_000):
        worker.link.stream_changed(news(f"s{turn % 3}", viewers=turn))
        worker.link.hls_changed("s0")
        if turn % 10 == 0:
            worker.link.reply(Done(turn), peer="edge-1")
    assert worker.link.waiting < 310
    got: list[MediaMessage] = []

    def drained() -> bool:
        got.extend(worker.read())
        return worker.link.waiting == 0

    await until(drained)
    got.extend(worker.read())
    assert [m.id for m in got if isinstance(m, Done)] == list(range(0, 3_000, 10))
    last = {m.stream: m.viewers_webrtc for m in got if isinstance(m, StreamChanged)}
    assert last == {"s0": 2997, "s1": 2998, "s2": 2999}
    assert HlsChanged("s0") in got
    worker.link.close()


async def test_requests_are_left_unread_while_replies_pile_up(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("media.edge_link.REPLIES_MAX", 10)
    worker.link.open()
    await worker.greet()
    while worker.link.waiting < 10:
        worker.link.reply(Done(1), peer="edge-1")
    worker.say(AskKeyFrame(1, "s"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert worker.requests == []
    await until(lambda: not worker.read() and worker.link.waiting == 0)
    await until(lambda: bool(worker.requests))
    worker.link.close()


async def test_a_closed_end_is_no_error(worker: Worker) -> None:
    worker.link.open()
    await worker.greet()
    worker.socket.close()
    worker.link.hls_changed("s")
    await asyncio.sleep(0)
    worker.link.hls_changed("s")
    worker.link.close()
