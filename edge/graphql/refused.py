"""A request that is not executed at all: what is wrong with it, and which status tells so."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from ops.errors import Rejected
from services._kit.actor import Actor

_encoder: Final = msgspec.json.Encoder()


class Refused(Rejected):
    """A request error, as the specification calls it: the answer has no `data`.

    `status` holds for application/graphql-response+json; with application/json it is 200, since
    clients of that type look into the body, unless `always`.
    """

    code = "graphql.invalid"

    def __init__(
        self,
        message: str,
        *,
        code: str,
        status: int = 400,
        always: bool = False,
        errors: Sequence[Mapping[str, Any]] = (),
        fields: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, code=code, fields=fields)
        self.status = status
        self.always = always
        self.errors = tuple(errors)
        """`message` and `locations` of each fault of the document; empty: the message is all."""
        self.headers: Mapping[str, str] = headers or {}


def refusal(refused: Refused, *, trace: str = "") -> dict[str, Any]:
    """The answer to a request that was not executed."""
    extensions = {**refused.fields, **always(refused.code, trace=trace)}
    errors = refused.errors or ({"message": refused.message},)
    return {"errors": [{**error, "extensions": extensions} for error in errors]}


def always(code: str, *, trace: str) -> dict[str, Any]:
    """What the extensions of every error have."""
    return {"code": code, "traceId": trace} if trace else {"code": code}


def trace_of(actor: Actor) -> str:
    """The id of the trace that the request belongs to (W3C traceparent), if any."""
    parts = actor.trace.split("-")
    return parts[1] if len(parts) >= 4 else ""


def encode(answer: Mapping[str, Any]) -> bytes:
    """The answer's JSON."""
    return _encoder.encode(answer)
