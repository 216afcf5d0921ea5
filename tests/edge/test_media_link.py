"""The link to media: replies, refusals, a restarted or silent media process, a full socket."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from edge.media_link import QUEUE_MESSAGES_MAX, MediaLink
from media.messages import (
    Answered,
    Close,
    Grant,
    Hello,
    Publish,
    Ready,
    Refused,
    StreamChanged,
    encode,
)
from ops.errors import Rejected, Unavailable
from tests.edge.conftest import eventually
from tests.fakes.media_process import FakeMedia, stream_state

GRANT = Grant("local", ("publish",))


@pytest.fixture
async def pair() -> AsyncIterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


async def test_requests_replies_and_the_mirror(pair: tuple[socket.socket, socket.socket]) -> None:
    changes: list[StreamChanged] = []
    woken: list[str] = []
    async with (
        FakeMedia(pair[1]) as media,
        MediaLink(pair[0], on_stream=changes.append, on_hls=woken.append) as link,
    ):
        answered = await link.publish("demo", offer="v=0", grant=GRANT)
        assert answered.sdp.startswith("v=0")
        assert (await link.session(answered.session)).stream == "demo"
        await link.close(answered.session)
        with pytest.raises(Rejected) as gone:
            await link.close(answered.session)
        assert gone.value.code == "session.unknown"
        media.live("demo")
        media.hls_changed("demo")
        await eventually(lambda: woken == ["demo"])
        assert link.streams["demo"].state == "live"
        media.say(stream_state("demo", state="gone"))
        await eventually(lambda: not link.streams)
        assert [change.state for change in changes] == ["live", "gone"]
        assert link.pending == 0


async def test_refusals_keep_their_code(pair: tuple[socket.socket, socket.socket]) -> None:
    async with FakeMedia(pair[1]) as media, MediaLink(pair[0]) as link:
        media.refusals["a"] = Refused(0, "stream.not_live", "nobody publishes", 2)
        media.refusals["b"] = Refused(0, "sdp.malformed", "line 3: what")
        with pytest.raises(Unavailable) as later:
            await link.play("a", offer="v=0", grant=GRANT)
        assert (later.value.code, later.value.retry_after_seconds) == ("stream.not_live", 2)
        with pytest.raises(Rejected) as never:
            await link.play("b", offer="v=0", grant=GRANT)
        assert (never.value.code, never.value.message) == ("sdp.malformed", "line 3: what")


async def test_a_restarted_media_process(pair: tuple[socket.socket, socket.socket]) -> None:
    changes: list[StreamChanged] = []
    async with AsyncExitStack() as stack:
        media = await stack.enter_async_context(FakeMedia(pair[1]))
        link = MediaLink(pair[0], on_stream=changes.append)
        await stack.enter_async_context(link)
        media.live("kept")
        media.live("lost")
        await eventually(lambda: len(link.streams) == 2)
        media.mute = True
        waiting = asyncio.ensure_future(link.publish("demo", offer="v=0", grant=GRANT))
        await eventually(lambda: media.asked(Publish))
        media.say(Hello("media-1", "media"))
        del media.streams["lost"]
        changes.clear()
        media.mute = False
        media.say(Hello("media-2", "media"))
        assert (await waiting).etag == "tag1", "the new process is asked what the old one was"
        assert len(media.asked(Publish)) == 2
        await eventually(lambda: "lost" not in link.streams)
        await eventually(lambda: link.ready)
        assert list(link.streams) == ["kept"]
        assert ("lost", "gone") in [(change.stream, change.state) for change in changes]
        media.say(Answered(media.asked(Publish)[0].id, "late", "v=0", "e", "u"))
        await eventually(lambda: media.asked(Close))
        assert media.asked(Close)[0].session == "late"


async def test_what_two_media_processes_did_not_answer_fails(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    async with FakeMedia(pair[1]) as media, MediaLink(pair[0]) as link:
        await eventually(lambda: link.ready)
        media.mute = True
        waiting = asyncio.ensure_future(link.publish("demo", offer="v=0", grant=GRANT))
        await eventually(lambda: media.asked(Publish))
        media.say(Hello("media-2", "media"))
        media.say(Ready())
        await eventually(lambda: len(media.asked(Publish)) == 2)
        media.say(Hello("media-3", "media"))
        with pytest.raises(Unavailable) as failed:
            await waiting
        assert (failed.value.code, failed.value.retry_after_seconds) == ("media.restarting", 1)
        assert link.pending == 0


async def test_a_silent_or_absent_media_process(pair: tuple[socket.socket, socket.socket]) -> None:
    async with MediaLink(pair[0], ready_seconds=0.05, reply_seconds=0.05) as link:
        with pytest.raises(Unavailable) as absent:
            await link.publish("demo", offer="v=0", grant=GRANT)
        assert absent.value.code == "media.restarting"
        pair[1].send(encode(Ready()))
        await eventually(lambda: link.ready)
        with pytest.raises(Unavailable) as silent:
            await link.publish("demo", offer="v=0", grant=GRANT)
        assert silent.value.code == "media.silent"
        assert link.pending == 0


async def test_a_request_waits_for_a_media_process_that_starts(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    async with MediaLink(pair[0], ready_seconds=5.0) as link:
        waiting = asyncio.ensure_future(link.publish("demo", offer="v=0", grant=GRANT))
        async with FakeMedia(pair[1]):
            assert (await waiting).etag == "tag1"


async def test_a_full_socket_blocks_nobody(pair: tuple[socket.socket, socket.socket]) -> None:
    async with MediaLink(pair[0]) as link:
        pair[1].send(encode(Ready()))
        await eventually(lambda: link.ready)
        for number in range(QUEUE_MESSAGES_MAX + 1_000):
            link.demand(f"stream-{number}")
        assert link.dropped > 0
        with pytest.raises(Unavailable) as full:
            await link.publish("demo", offer="v=0", grant=GRANT)
        assert full.value.code == "media.overloaded"
        async with FakeMedia(pair[1]) as media:
            await eventually(lambda: len(media.received) >= QUEUE_MESSAGES_MAX)
            assert (await link.publish("demo", offer="v=0", grant=GRANT)).etag == "tag1"
            names = [message.stream for message in media.received if hasattr(message, "stream")]
            assert names[:3] == ["stream-0", "stream-1", "stream-2"]


async def test_garbage_is_ignored_and_a_closed_link_fails_requests(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    async with FakeMedia(pair[1]) as media, MediaLink(pair[0]) as link:
        pair[1].send(b"\xff\xff")
        pair[1].send(b"\x81\xa4type\xa7Nothing")
        assert (await link.publish("demo", offer="v=0", grant=GRANT)).etag == "tag1"
        media.mute = True
        waiting = asyncio.ensure_future(link.publish("demo", offer="v=0", grant=GRANT))
        await eventually(lambda: len(media.asked(Publish)) == 2)
        asyncio.get_running_loop().remove_reader(pair[1])
        pair[1].shutdown(socket.SHUT_RDWR)
        with pytest.raises(Unavailable):
            await waiting
        assert not link.ready
