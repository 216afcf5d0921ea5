"""A small WHIP client over aiohttp: post an offer, ask whether the session lives, delete it.

Made for any WHIP server, so it keeps to RFC 9725; it knows nothing of media.
"""

from dataclasses import dataclass
from typing import Final
from urllib.parse import urljoin

import aiohttp

from ops.errors import Rejected, Unavailable

ANSWER_BYTES_MAX: Final = 65_536
_REASON_BYTES_MAX: Final = 2_000
_REQUEST_SECONDS: Final = 5.0
_DELETE_SECONDS: Final = 1.0
_FRAGMENT_TYPE: Final = "application/trickle-ice-sdpfrag"


@dataclass(frozen=True, slots=True)
class Session:
    """What a server gave: the session's address, its entity tag (may be empty), its answer."""

    url: str
    etag: str
    answer: str


class WhipClient:
    """Speaks to one WHIP address. The HTTP session is the caller's."""

    def __init__(self, http: aiohttp.ClientSession, *, url: str, key: str) -> None:
        self._http = http
        self.url = url
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    async def publish(self, offer: str) -> Session:
        """Posts an offer. Raises Rejected (4xx, or no WHIP answer) or Unavailable (all else)."""
        headers = {**self._headers, "Content-Type": "application/sdp"}
        try:
            async with self._http.post(
                self.url, data=offer.encode(), headers=headers, timeout=_limit(_REQUEST_SECONDS)
            ) as response:
                body = await response.content.read(ANSWER_BYTES_MAX)
                if response.status != 201:
                    raise _refused(response, body)
                location = response.headers.get("Location", "")
                if not location or not response.content_type.startswith("application/sdp"):
                    raise Rejected("the server's answer is not WHIP's", code="demo.not_whip")
                etag = response.headers.get("ETag", "")
                return Session(urljoin(str(response.url), location), etag, body.decode())
        except (aiohttp.ClientError, TimeoutError, UnicodeDecodeError) as error:
            raise Unavailable(f"no answer from {self.url}: {error}", code="demo.server") from error

    async def is_gone(self, session: Session, offer: str) -> bool:
        """Whether the server says that it has no such session; false when it cannot say.

        Asks by a trickle fragment without candidates, which changes nothing.
        """
        headers = {**self._headers, "Content-Type": _FRAGMENT_TYPE}
        if session.etag:
            headers["If-Match"] = session.etag
        try:
            async with self._http.patch(
                session.url, data=_fragment(offer), headers=headers, timeout=_limit(_DELETE_SECONDS)
            ) as response:
                return response.status in {404, 410}
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def delete(self, session: Session) -> None:
        """Ends the session; a server that is gone is no matter."""
        try:
            async with self._http.delete(
                session.url, headers=self._headers, timeout=_limit(_DELETE_SECONDS)
            ):
                return
        except (aiohttp.ClientError, TimeoutError):
            return

    async def is_taken(self) -> bool:
        """Whether somebody is on air there, as our control API tells; other servers: false."""
        base, _, stream = self.url.partition("/whip/")
        if not stream:
            return False
        try:
            async with self._http.get(
                f"{base}/api/v1/streams/{stream}",
                headers=self._headers,
                timeout=_limit(_DELETE_SECONDS),
            ) as response:
                if response.status != 200 or response.content_type != "application/json":
                    return False
                body = await response.json()
                return isinstance(body, dict) and body.get("state") == "live"
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return False


def _limit(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=seconds)


def _refused(response: aiohttp.ClientResponse, body: bytes) -> Rejected | Unavailable:
    reason = body[:_REASON_BYTES_MAX].decode(errors="replace").strip()
    text = f"the server answered {response.status} {response.reason}: {reason}"
    if 400 <= response.status < 500 and response.status not in {408, 409, 425, 429}:
        return Rejected(text, code="demo.refused", fields={"status": response.status})
    after = response.headers.get("Retry-After", "")
    return Unavailable(
        text,
        code="demo.server",
        fields={"status": response.status},
        retry_after_seconds=int(after) if after.isdecimal() else 0,
    )


def _fragment(offer: str) -> bytes:
    """The offer's ICE credentials and first medium, and that no candidate will follow."""
    wanted: dict[str, str] = {}
    for line in offer.splitlines():
        for start in ("a=ice-ufrag:", "a=ice-pwd:", "m=", "a=mid:"):
            if line.startswith(start):
                wanted.setdefault(start, line)
    order = ("a=ice-ufrag:", "a=ice-pwd:", "m=", "a=mid:")
    lines = [wanted[start] for start in order if start in wanted]
    return "\r\n".join([*lines, "a=end-of-candidates", ""]).encode()
