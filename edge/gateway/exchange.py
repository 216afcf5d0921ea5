"""A request on its way in and its answer on the way out, whoever carries them: aiohttp, or a
composition that makes requests of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from aiohttp import web

from edge.gateway.fields import Pairs, proxy_status
from edge.problems import CONTENT_TYPE, Refusal, document


class Body(Protocol):
    """The body of a request, not read yet."""

    @property
    def length(self) -> int | None:
        """In bytes; 0: there is none; None: it does not say."""
        ...

    async def read(self, bytes_max: int) -> bytes:
        """All of it. Raises Refusal (408, 413)."""
        ...

    async def piece(self, bytes_max: int) -> bytes:
        """What comes next, b"" at the end; bytes_max: of all pieces. Raises Refusal (408, 413)."""
        ...


class Stream(Protocol):
    """The body of an answer that is passed on as it comes."""

    async def read(self) -> bytes:
        """What comes next; b"" at the end. Raises ConnectionError: it broke off."""
        ...

    def close(self) -> None:
        """No more of it is wanted. Idempotent."""
        ...


class Nothing:
    """No body."""

    length: int | None = 0

    async def read(self, bytes_max: int) -> bytes:  # noqa: ARG002
        return b""

    async def piece(self, bytes_max: int) -> bytes:  # noqa: ARG002
        return b""


class Whole:
    """A body that is there already."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.length: int | None = len(data)

    async def read(self, bytes_max: int) -> bytes:
        check_length(self.length, bytes_max)
        return self._data

    async def piece(self, bytes_max: int) -> bytes:
        check_length(self.length, bytes_max)
        data, self._data = self._data, b""
        return data


@dataclass(slots=True)
class Inbound:
    """A request. Its head was read strictly, its path names no dot segments."""

    method: str
    raw_path: str
    """As it was sent, percent-encoded."""
    path: str
    """Decoded."""
    query: str
    headers: Mapping[str, str]
    """By name in any case (CIMultiDict); `items()` has what was given twice twice."""
    body: Body = field(default_factory=Nothing)
    host: str = ""
    """In lower case, with its port if it names one."""
    scheme: str = "http"
    address: str = ""
    """The client's."""
    raw: web.Request | None = None
    """For what becomes another protocol (WebSocket)."""

    def all(self) -> dict[str, str]:
        """The header fields by lower-case name, those given twice joined."""
        found: dict[str, str] = {}
        for spelled, value in self.headers.items():
            name = spelled.lower()
            found[name] = f"{found[name]}, {value}" if name in found else value
        return found


@dataclass(slots=True)
class Answer:
    """An answer: a whole body, or a stream that whoever sends it closes."""

    status: int
    headers: Pairs = field(default_factory=list)
    """Names in lower case."""
    body: bytes = b""
    stream: Stream | None = None
    sent: web.StreamResponse | None = None
    """It has been sent already, as another protocol."""
    close: bool = False
    """Whether the connection ends with it, since not all of the request was read."""

    async def whole(self, bytes_max: int) -> bytes | None:
        """The body, read to its end; None: it is longer, and `stream` then begins anew with it.

        Raises Refusal (502): it broke off.
        """
        if self.stream is None:
            return self.body if len(self.body) <= bytes_max else None
        stream, pieces, size = self.stream, [], 0
        self.stream = None
        try:
            while piece := await stream.read():
                pieces.append(piece)
                size += len(piece)
                if size > bytes_max:
                    self.stream = _Again(pieces, stream)
                    return None
        except ConnectionError as error:
            raise _broken_off() from error
        finally:
            # Also when whoever asked is gone.
            if self.stream is None:
                stream.close()
        self.body = b"".join(pieces)
        return self.body


class _Again:
    """Pieces that were read already, and the rest."""

    def __init__(self, pieces: list[bytes], rest: Stream) -> None:
        self._pieces = pieces
        self._rest = rest

    async def read(self) -> bytes:
        if self._pieces:
            return self._pieces.pop(0)
        return await self._rest.read()

    def close(self) -> None:
        self._pieces.clear()
        self._rest.close()


def _broken_off() -> Refusal:
    return Refusal(
        502,
        "the answer broke off",
        code="gateway.connection_terminated",
        headers={"Proxy-Status": proxy_status("connection_terminated")},
    )


def check_length(length: int | None, bytes_max: int) -> None:
    """Raises Refusal (413) when a body says that it is too long, before any of it is read."""
    if length is not None and length > bytes_max:
        raise Refusal(
            413,
            f"the body is longer than {bytes_max} bytes",
            code="http.body_too_long",
            fields={"bytes_max": bytes_max},
        )


def problem(refused: Refusal) -> Answer:
    """The answer that tells of a refusal."""
    headers = [("content-type", CONTENT_TYPE), ("cache-control", "no-store")]
    headers += [(name.lower(), value) for name, value in refused.headers.items()]
    unread = refused.status in {408, 413}
    return Answer(refused.status, headers, document(refused), close=unread)
