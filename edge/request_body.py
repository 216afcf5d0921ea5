"""Reads a request's body whole, bounded, for handlers of ours that take one of aiohttp's requests;
and says when a client that waits with its body may send it (RFC 9110, section 10.1.1).

The gateway reads bodies in pieces, since it passes them on: `edge/gateway/http.py`, and so do
regions: `edge/regions/forwarder.py`.
"""

from typing import Final

from aiohttp import web

from edge.problems import Refusal, response

_WAITS: Final = web.RequestKey("nexus.waits", bool)
"""Whether the client waits until somebody wants its body."""


async def expect(request: web.Request) -> web.StreamResponse | None:
    """Says nothing yet to a client that waits with its body until somebody wants it; 417 to one
    that expects something else.
    """
    if request.headers.get("Expect", "").lower() == "100-continue":
        request[_WAITS] = True
        return None
    refused = Refusal(417, "only 100-continue can be expected", code="http.expectation_failed")
    return response(refused)


async def go_on(request: web.Request) -> None:
    """Somebody wants the body: tells a client that waits for that, once."""
    if request.get(_WAITS, False):
        request[_WAITS] = False
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # As aiohttp does: the answer itself has not begun.
        request.writer.output_size = 0


async def read_body(request: web.Request, bytes_max: int) -> bytes:
    """The whole body. Raises: Refusal (413) before more than `bytes_max` are held."""
    if not request.body_exists:
        return b""
    length = request.content_length
    if length is not None and length > bytes_max:
        raise _too_large(bytes_max)
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
        if size > bytes_max:
            raise _too_large(bytes_max)
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large(bytes_max: int) -> Refusal:
    return Refusal(
        413,
        f"the body is longer than {bytes_max} bytes",
        code="http.body_too_long",
        headers={"Connection": "close"},
        fields={"bytes_max": bytes_max},
    )
