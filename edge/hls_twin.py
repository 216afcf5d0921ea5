"""HLS on connections that aiohttp already owns: the same decisions and answers, written by aiohttp.

A browser that loaded a page keeps the connection and may ask for playlists on it. It is the slow
way (a task a request), and the only other one: the target is read by `edge/hls_server.py` in both.
"""

import asyncio
from typing import Final

from aiohttp import web
from multidict import CIMultiDict

from edge.hls_reply import Headers, chosen, fields
from edge.hls_request import METHODS, Request, read_target
from edge.hls_server import Client, HlsServer
from edge.problems import Refusal, from_status
from edge.routes import FIELDS, REMOTE, TAKER, Answer, Route
from edge.timer_wheel import TimerWheel
from media.hls.shelf import Reply

_ALLOW: Final = ", ".join(sorted(METHODS))


class HlsTwin:
    """The aiohttp route for /hls/."""

    routes: Final = (
        Route(
            "*",
            "/hls/{tail:.*}",
            "answer",
            "LL-HLS",
            {200: Answer("A playlist or media.")},
            action="read",
            tag="hls",
        ),
    )

    def __init__(self, server: HlsServer, wheel: TimerWheel) -> None:
        self._server = server
        self._wheel = wheel

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answers now, or waits as a connection of our own does."""
        if request.method not in METHODS:
            raise from_status(405, headers={"Allow": _ALLOW})
        asked = read_target(
            request.raw_path, method=request.method, keep_alive=True, fields=request[FIELDS]
        )
        client = _TwinClient(self._server, request[REMOTE])
        client.taker = request[TAKER]
        try:
            self._server.begin(asked, client)
            reply = await client.answered
        finally:
            client.left = True
            self._server.forget(client)
        status, body, headers = chosen(reply, asked.range)
        answer = fields(reply, headers, shared=client.shared)
        return web.Response(status=status, body=bytes(body), headers=_headers(answer))


class _TwinClient(Client):
    """A request of aiohttp's as the HLS server sees it."""

    __slots__ = ("_remote", "_server", "answered", "left")

    def __init__(self, server: HlsServer, remote: str) -> None:
        super().__init__()
        self._server = server
        self._remote = remote
        self.left = False
        self.answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    @property
    def gone(self) -> bool:
        return self.left

    @property
    def remote(self) -> str:
        return self._remote

    def on_deadline(self) -> None:
        if self.waits_for is not None:
            self._server.overdue(self)

    def finish(self, request: Request, reply: Reply) -> None:  # noqa: ARG002
        if not self.answered.done():
            self.answered.set_result(reply)

    def refuse(self, request: Request, problem: Refusal) -> None:  # noqa: ARG002
        if not self.answered.done():
            self.answered.set_exception(problem)


def _headers(answer: Headers) -> CIMultiDict[str]:
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in answer:
        headers.add(name.decode("ascii"), value.decode("latin-1"))
    return headers
