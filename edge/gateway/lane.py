"""The short way to the gateway: business requests on connections of our own, without aiohttp.

A request goes this way when all of it has come and nothing about it is unusual: below `/v1/`, on no
path of another route table, HTTP/1.1, GET, POST, PUT, PATCH or DELETE, no body or a whole one by
Content-Length, no Upgrade, no Expect, nothing percent-encoded in its path. Whatever else comes on
the connection is handed on with it to aiohttp (`edge/http_app.py`), which asks the same gateway: so
there is one set of rules, and what is usual costs a part of it.

A node with regions beside it has no lane: aiohttp's requests are what is passed on to them.
"""

import asyncio
import contextlib
from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus
from typing import Final, NamedTuple, Protocol

from multidict import CIMultiDict, CIMultiDictProxy

from edge.gateway.exchange import Answer, Inbound, Nothing, Stream, Whole
from edge.gateway.gateway import Gateway
from edge.http_date import HttpDate
from edge.http_head import Head, pairs_of
from edge.http_metrics import answered
from ops import tracing
from ops.tasks import SupervisedGroup

PREFIX: Final = "/v1/"
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
_REMEMBERED_BLOCKS: Final = 4_096
_REMEMBERED_BYTES_MAX: Final = 2_048
_WRITTEN_HERE: Final = frozenset({"connection", "content-length", "date", "transfer-encoding"})
_DEFAULTS: Final = (("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer"))
_BODILESS: Final = frozenset({204, 304})


class Carrier(Protocol):
    """The connection that a request came on; it answers one at a time."""

    secure: bool
    """Whether it is encrypted."""

    @property
    def remote(self) -> str:
        """The client's address."""
        ...

    @property
    def ending(self) -> bool:
        """Whether nothing is answered after this."""
        ...

    def send(self, start: bytes, *, rest: bytes = b"") -> None:
        """Writes both."""
        ...

    async def drained(self) -> None:
        """Until the client has taken enough of what was written."""
        ...

    def answered(self, *, keep_alive: bool) -> None:
        """The answer is whole."""
        ...

    def broken(self, *, begun: bool) -> None:
        """There is no answer, or not all of one that has begun."""
        ...


class Whither(NamedTuple):
    """A request that goes by the lane, and where in the bytes it ends."""

    inbound: Inbound
    end: int


class _Block(NamedTuple):
    """Header fields as the gateway takes them."""

    headers: CIMultiDictProxy[str]
    body_bytes: int
    usual: bool


class Lane:
    """The lane of one worker. Its requests' tasks belong to `tasks`."""

    def __init__(
        self,
        gateway: Gateway,
        *,
        others: frozenset[str],
        tasks: SupervisedGroup,
        date: HttpDate,
        clock: Callable[[], float],
    ) -> None:
        """others: paths below `PREFIX` that are not the gateway's. clock: monotonic seconds."""
        assert not any("{" in path for path in others), "only whole paths can be told apart"
        self._gateway = gateway
        self._others = others
        self._tasks = tasks
        self._date = date
        self._clock = clock

    @property
    def under_way(self) -> int:
        """Requests that are being answered."""
        return len(self._tasks)

    def read(self, head: Head, data: bytes, start: int) -> Whither | None:
        """The request in `data`, whose head was read and ends at `start`; None: it is not for the
        lane."""
        target = head.target
        if not (target.startswith(PREFIX) and head.keep_alive and head.method in _METHODS):
            return None
        path, _, query = target.partition("?")
        line_end = data.index(b"\r\n")
        if "%" in path or path in self._others or data[line_end - 1] != ord("1"):
            return None
        block = data[line_end + 2 : start - 2]
        read = _remembered if len(block) <= _REMEMBERED_BYTES_MAX else _read
        headers, body_bytes, usual = read(block)
        end = start + body_bytes
        if not usual or end > len(data):
            return None
        inbound = Inbound(
            head.method,
            path,
            path,
            query,
            headers,
            Whole(data[start:end]) if body_bytes else Nothing(),
            host=head.fields.host.lower(),
        )
        return Whither(inbound, end)

    async def finish(self, seconds: float) -> None:
        """Waits so long for the requests under way."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._tasks.join()

    def start(self, inbound: Inbound, carrier: Carrier) -> asyncio.Task[None]:
        """Answers the request; cancel it when nobody is there any more. Raises Unavailable."""
        inbound.address = carrier.remote
        if carrier.secure:
            inbound.scheme = "https"
        return self._tasks.start("request", self._serve(inbound, carrier))

    async def _serve(self, inbound: Inbound, carrier: Carrier) -> None:
        began, begun, whole = self._clock(), False, False
        stream: Stream | None = None
        try:
            with tracing.span(f"{inbound.method} /v1/{{tail}}", inbound.headers):
                answer = await self._gateway.answer(inbound)
            seconds = self._clock() - began
            answered("gateway", method=inbound.method, status=answer.status, seconds=seconds)
            keep_alive = not (answer.close or carrier.ending)
            stream, body = answer.stream, answer.body
            if answer.status in _BODILESS:
                body = b""
                if stream is not None:
                    stream.close()
                    stream = None
            length = len(body) if stream is None else None
            carrier.send(self._head(answer, length, keep_alive=keep_alive), rest=body)
            begun = True
            if stream is not None:
                await _pass_on(stream, carrier)
            whole = True
            carrier.answered(keep_alive=keep_alive)
        except ConnectionError:
            # What was passed on broke off: whoever reads sees that this is not the end.
            pass
        finally:
            if stream is not None:
                stream.close()
            if not whole:
                carrier.broken(begun=begun)

    def _head(self, answer: Answer, length: int | None, *, keep_alive: bool) -> bytes:
        """The head of an answer. length: of its body; None: it comes in chunks."""
        lines = [_status_line(answer.status)]
        lines += [f"{name}: {value}" for name, value in answer.headers if name not in _WRITTEN_HERE]
        given = {name for name, _ in answer.headers}
        lines += [f"{name}: {value}" for name, value in _DEFAULTS if name not in given]
        if length is None:
            lines.append("transfer-encoding: chunked")
        elif answer.status not in _BODILESS:
            lines.append(f"content-length: {length}")
        if not keep_alive:
            lines.append("connection: close")
        text = "\r\n".join(lines)
        if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1:
            raise ValueError("a header field of an answer has a line break")
        return b"%s\r\ndate: %s\r\n\r\n" % (
            text.encode("utf-8", "surrogateescape"),
            self._date.value,
        )


async def _pass_on(stream: Stream, carrier: Carrier) -> None:
    while piece := await stream.read():
        carrier.send(b"%x\r\n" % len(piece), rest=piece + b"\r\n")
        await carrier.drained()
    carrier.send(b"0\r\n\r\n")


def _read(block: bytes) -> _Block:
    """Header fields that `edge/http_head.py` has found well-formed."""
    headers = CIMultiDict(
        (name.decode("ascii"), value.decode("utf-8", "surrogateescape"))
        for name, value in pairs_of(block)
    )
    usual = not ("Upgrade" in headers or "Expect" in headers or "Transfer-Encoding" in headers)
    return _Block(CIMultiDictProxy(headers), int(headers.get("Content-Length", "0")), usual)


_remembered = lru_cache(maxsize=_REMEMBERED_BLOCKS)(_read)


@lru_cache(maxsize=512)
def _status_line(status: int) -> str:
    known = status in HTTPStatus.__members__.values()
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase if known else ''}"
