"""GraphQL behind the gateway, which knows who asks and whose limit an operation is taken from.

What an operation costs is known when its document is: one token is taken at the door, for a
document that is wrong has its cost too, and the rest then, from the same buckets. A request for a
tenant of another region is answered from there.
"""

from typing import Final

from aiohttp import web

from edge.gateway.dispatch import trace_of
from edge.gateway.gateway import Gateway
from edge.gateway.http import GatewayHttp
from edge.graphql.backend import Caller

DOOR_TOKENS: Final = 1


class GatewayDoor:
    """Says who asks."""

    def __init__(self, gateway: Gateway, http: GatewayHttp) -> None:
        self._gateway = gateway
        self._http = http

    async def identify(self, request: web.Request) -> Caller | web.StreamResponse:
        """Who asks, or the answer of another region.

        Raises NexusError: the credential is wrong, too many unknown ones were shown, or the
        caller's limit is used up.
        """
        gateway = self._gateway
        inbound = self._http.beside(request)
        principal = gateway.identify(inbound)
        said = await gateway.charge(principal, inbound.address, DOOR_TOKENS)
        crossed = await gateway.crossed(inbound, principal)
        if crossed is not None and crossed.sent is not None:
            return crossed.sent
        caller = Caller(
            principal.actor(address=inbound.address, trace=trace_of(inbound)), headers=dict(said)
        )

        async def charge(tokens: int) -> None:
            if tokens > DOOR_TOKENS:
                said = await gateway.charge(principal, inbound.address, tokens, before=DOOR_TOKENS)
                caller.headers.update(said)

        caller.charge = charge
        return caller
