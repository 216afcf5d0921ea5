"""Lists as server-sent events: who wants them, and the answer's head.

Any list of any service is streamed to who prefers `text/event-stream` to JSON. It is treated as the
plain list is (who asks, limits, CORS), but for what would keep or hold it: no cache, no
compression, no deadline once it has begun. It ends with the caller's credential.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Protocol

from edge.gateway.exchange import Answer, Stream
from edge.gateway.identity import Principal
from edge.problems import Refusal
from services._kit.call import Request
from services._kit.operation import Operation

EVENT_STREAM: Final = "text/event-stream"
_HEADERS: Final = (
    ("content-type", EVENT_STREAM),
    ("cache-control", "no-store"),
    # Proxies in front of us that keep answers together, as nginx does, let this one through.
    ("x-accel-buffering", "no"),
)


class Lists(Protocol):
    """Follows lists: `services/_live/lists.py`."""

    async def listen(
        self,
        operation: Operation,
        request: Request,
        *,
        resume: str = "",
        until_unix: float = math.inf,
    ) -> Stream: ...

    def renew(self) -> None:
        """Ends all streams, so that each client shows its credential again."""
        ...


async def follow(
    lists: Lists, operation: Operation, request: Request, *, resume: str, principal: Principal
) -> Answer:
    """The answer that goes on for as long as the client stays. Raises NexusError."""
    until = principal.expires_unix or math.inf
    stream = await lists.listen(operation, request, resume=resume, until_unix=until)
    return Answer(200, list(_HEADERS), stream=stream)


@lru_cache(maxsize=1_024)
def wants_events(accept: str) -> bool:
    """Whether Accept (RFC 9110, section 12.5.1) prefers events to JSON."""
    weights: dict[str, float] = {}
    for part in accept.lower().split(","):
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        weights[kind] = _weight(parameters)
    wanted = weights.get(EVENT_STREAM, 0.0)
    if "application/json" in weights:
        return wanted > weights["application/json"]
    return wanted > 0 and wanted >= max(weights.get("*/*", 0.0), weights.get("application/*", 0.0))


def not_streamed() -> Refusal:
    """406: this list is answered as JSON alone."""
    return Refusal(
        406,
        "this list is answered as JSON alone: its members are changed on the way",
        code="gateway.not_acceptable",
    )


def _weight(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
