"""Reads a request's body whole, bounded, for handlers of ours that take one of aiohttp's requests.

The gateway reads bodies in pieces, since it passes them on: `edge/gateway/http.py`.
"""

from aiohttp import web

from edge.problems import Refusal


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
