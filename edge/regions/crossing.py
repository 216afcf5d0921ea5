"""At the door: is this request for here, and if not, is it passed on or answered 421?

It is asked once for each request, as soon as its credential has told whose it is and before its
body is read. A request is passed on once: one that says `Nexus-Forward: no`, as every passed-on
request does, is answered 421 (RFC 9110, section 15.5.20) with the right region and its URL, and so
are those of a tenant whose data may not pass through here, and whatever wants another protocol
(WebSocket). What is let through is still checked below, by the kit (`ops/placement.py`).
"""

from typing import Final

from aiohttp import web

from edge.regions.forwarder import FORWARD, Forwarder
from edge.regions.homes import Homes
from ops import metrics
from ops.placement import Placement, State, Unplaced
from ops.region_settings import PeerSettings, RegionSettings
from ops.residency import DataClass, may_leave

DIRECTORY_PATH: Final = "/v1/placement/"
"""Where the directory itself is served: to operators, in the region that keeps it."""
_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

_answered = metrics.counter(
    "nexus_regions_misdirected",
    "Requests for tenants elsewhere that were answered 421 instead of passed on.",
    ("why",),
)
_answered.expect(("asked",), ("residency",), ("protocol",), ("unknown",))


class Crossing:
    """Decides for one worker. Owns nothing."""

    def __init__(self, homes: Homes, forwarder: Forwarder, settings: RegionSettings) -> None:
        self._homes = homes
        self._forwarder = forwarder
        self._settings = settings

    async def elsewhere(self, request: web.Request, *, tenant: str) -> web.StreamResponse | None:
        """The answer of the tenant's home, already sent; None: the home is here. What is no read by
        its method claims a tenant that nobody has.

        Raises Misdirected (421), Unplaced, DatabaseFault, Refusal (502, 503, 504).
        """
        if not tenant or not self._settings.peers:
            return None
        claim = request.method not in _READS
        placement = await self._placement(request, tenant, claim=claim)
        region = self._homes.region
        if placement is None or placement.served_in(region):
            return None
        refusal = self._homes.refusal(placement)
        if isinstance(refusal, Unplaced):
            raise refusal
        peer = self._settings.peer(placement.home)
        why = _reason(request, placement, peer, region)
        if peer is None or why:
            _answered.inc(labels=(why,))
            raise refusal
        try:
            return await self._forwarder.forward(request, peer)
        except Unplaced:
            self._homes.forget(tenant)
            raise

    async def _placement(
        self, request: web.Request, tenant: str, *, claim: bool
    ) -> Placement | None:
        if tenant == self._settings.operators:
            kept = self._settings.directory or self._homes.region
            if not request.path.startswith(DIRECTORY_PATH):
                kept = self._homes.region
            return Placement(tenant=tenant, home=kept, state=State.SETTLED)
        return await self._homes.find(tenant, claim=claim)


def _reason(
    request: web.Request, placement: Placement, peer: PeerSettings | None, region: str
) -> str:
    """Why a request is not passed on; "": it is."""
    if peer is None:
        return "unknown"
    if request.headers.get(FORWARD, "").strip().lower() == "no":
        return "asked"
    if "Upgrade" in request.headers:
        return "protocol"
    allowed = may_leave(
        DataClass.OPERATIONAL,
        placement.residency,
        home=placement.home,
        to=region,
        regions=placement.regions,
    )
    return "" if allowed else "residency"
