"""How regions know each other, and the directory of another region as this one asks it.

Every message between regions is signed with the key of the two (`regions.peers`), which itself
never travels:

    Authorization: Nexus-Peer region="us1", at="1767225600", mac="…"
    mac = HMAC-SHA-256(key, from | to | at | method | target | SHA-256 of the body), in hexadecimal

A signature holds for `CLOCK_SECONDS`. What is asked may be asked twice, so a repeated message does
no harm. What is answered is as secret as the connection: between machines that is an https:// URL.
Requests of clients that are passed on carry their own credential and nothing of this.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Literal, Self, TypeVar

import aiohttp
import msgspec

from ops.clock import SYSTEM, Clock
from ops.errors import Rejected
from ops.placement import Placement, Unplaced
from ops.region_settings import PeerSettings, RegionSettings
from services._kit.errors import Conflict
from services.platform.placement.api import TenantName
from services.platform.placement.store import BATCH_MAX, Changes

T = TypeVar("T")

Verb = Literal["find", "reserve", "confirm", "release"]

PATH: Final = "/regions/v1"
CLOCK_SECONDS: Final = 30
"""How far the clocks of two regions may be apart."""
ASK_SECONDS: Final = 5.0
"""How long the directory may take to answer."""
ANSWER_BYTES_MAX: Final = BATCH_MAX * 16_384
_SCHEME: Final = re.compile(
    r'Nexus-Peer region="([a-z]{2}[0-9]{1,3})", at="([0-9]{1,12})", mac="([0-9a-f]{64})"'
)


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a region asks of the directory."""

    tenant: TenantName
    epoch: int = 0


class Answer(msgspec.Struct, frozen=True):
    """What the directory knows of one tenant."""

    placement: Placement | None


class Batch(msgspec.Struct, frozen=True):
    """A part of the directory."""

    placements: tuple[Placement, ...]
    turn: int
    more: bool


class PeerUnknown(Rejected):
    """Whoever sent this is not a region that is known here."""

    code = "auth.invalid"


def signed(
    key: str, *, source: str, target: str, method: str, path: str, body: bytes, at: int
) -> str:
    """The value of Authorization. source, target: the regions; path: with its query; at: unix."""
    mac = _mac(key, f"{source}\n{target}\n{at}\n{method}\n{path}\n", body)
    return f'Nexus-Peer region="{source}", at="{at}", mac="{mac}"'


def verified(
    authorization: str,
    settings: RegionSettings,
    *,
    region: str,
    method: str,
    path: str,
    body: bytes,
    now: float,
) -> str:
    """Which region has signed a message to `region`. Raises PeerUnknown."""
    match = _SCHEME.fullmatch(authorization)
    peer = settings.peer(match[1]) if match is not None else None
    if match is None or peer is None or abs(now - int(match[2])) > CLOCK_SECONDS:
        raise PeerUnknown("this is for other regions, which sign what they ask")
    mac = _mac(peer.key, f"{peer.region}\n{region}\n{int(match[2])}\n{method}\n{path}\n", body)
    if not hmac.compare_digest(mac, match[3]):
        raise PeerUnknown("this is for other regions, which sign what they ask")
    return peer.region


def _mac(key: str, head: str, body: bytes) -> str:
    text = head.encode() + hashlib.sha256(body).hexdigest().encode()
    return hmac.digest(key.encode(), text, hashlib.sha256).hex()


class RemoteDirectory:
    """The directory that another region keeps (`edge/regions/directory.py`). `async with` it.

    Owns: an HTTP client session.
    """

    def __init__(
        self, peer: PeerSettings, *, region: str, connect_seconds: float, clock: Clock = SYSTEM
    ) -> None:
        """region: this one."""
        self._peer = peer
        self._region = region
        self._clock = clock
        self._timeout = aiohttp.ClientTimeout(total=ASK_SECONDS, sock_connect=connect_seconds)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=self._timeout)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def find(self, tenant: str) -> Placement | None:
        return await self._ask("find", Question(tenant))

    async def reserve(self, tenant: str) -> Placement:
        return _there(await self._ask("reserve", Question(tenant)))

    async def confirm(self, tenant: str, epoch: int) -> Placement:
        return _there(await self._ask("confirm", Question(tenant, epoch)))

    async def release(self, tenant: str, epoch: int) -> Placement:
        return _there(await self._ask("release", Question(tenant, epoch)))

    async def changes(self, after: int) -> Changes | None:
        path = f"{PATH}/changes?after={after}"
        status, body = await self._send("GET", path, b"", {"If-None-Match": f'"{after}"'})
        if status == 304:
            return None
        batch = _decoded(body, Batch)
        return Changes(batch.placements, batch.turn, batch.more)

    async def _ask(self, verb: Verb, question: Question) -> Placement | None:
        body = msgspec.json.encode(question)
        headers = {"Content-Type": "application/json"}
        _, told = await self._send("POST", f"{PATH}/{verb}", body, headers)
        return _decoded(told, Answer).placement

    async def _send(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        """Status and body of a good answer. Raises Conflict (409), Unplaced (all else)."""
        assert self._session is not None, "not entered"
        authorization = signed(
            self._peer.key,
            source=self._region,
            target=self._peer.region,
            method=method,
            path=path,
            body=body,
            at=int(self._clock.unix()),
        )
        try:
            async with self._session.request(
                method,
                self._peer.url + path,
                data=body or None,
                headers={**headers, "Authorization": authorization},
                allow_redirects=False,
            ) as answer:
                told = await _read(answer)
        except (TimeoutError, aiohttp.ClientError, OSError):
            raise Unplaced("the directory of tenants does not answer") from None
        if answer.status == 409:
            raise Conflict("the directory has given it to another region", code="placement.lost")
        if answer.status not in {200, 304}:
            raise Unplaced(f"the directory of tenants answers {answer.status}")
        return answer.status, told


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    pieces, size = [], 0
    async for piece in answer.content.iter_any():
        size += len(piece)
        if size > ANSWER_BYTES_MAX:
            raise Unplaced("the directory of tenants says too much")
        pieces.append(piece)
    return b"".join(pieces)


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError:
        raise Unplaced("the directory of tenants cannot be understood") from None


def _there(placement: Placement | None) -> Placement:
    if placement is None:
        raise Unplaced("the directory of tenants cannot be understood")
    return placement
