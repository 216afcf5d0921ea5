"""OpenTelemetry spans over OTLP/HTTP: off unless an endpoint is set, and free of cost while off.

The library is imported only when tracing starts. A span names a unit of work that somebody may wait
for (a request, a command to media), never a packet or a frame.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final

from ops.settings import setting

Value = str | int | float | bool

_OFF: Final[AbstractContextManager[None]] = nullcontext()
_EXPORT_QUEUE_MAX: Final = 2_048


@dataclass(frozen=True, slots=True)
class TracingSettings:
    """Where spans go."""

    endpoint: str = setting(
        "", "OTLP/HTTP address for traces, e.g. http://127.0.0.1:4318/v1/traces; empty: off."
    )
    sample_ratio: float = setting(
        0.01, "Share of traces that are recorded, from 0 to 1.", min=0, max=1
    )
    authorization: str = setting(
        "", "Authorization header sent to the endpoint; empty: none.", secret=True
    )


@dataclass(slots=True)
class _State:
    tracer: Any = None
    provider: Any = None
    propagator: Any = field(default=None)


_state = _State()


def start(settings: TracingSettings, *, role: str, slot: int) -> None:
    """Starts exporting when an endpoint is set. Owns: an exporter thread, ended by `stop`."""
    if not settings.endpoint or _state.tracer is not None:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio  # noqa: PLC0415
    from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
        TraceContextTextMapPropagator,
    )

    headers = {"authorization": settings.authorization} if settings.authorization else None
    resource = Resource.create(
        {"service.name": "nexus-cos", "service.instance.id": f"{role}-{slot}", "nexus.role": role}
    )
    provider = TracerProvider(
        resource=resource,
        sampler=ParentBasedTraceIdRatio(settings.sample_ratio),
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(endpoint=settings.endpoint, headers=headers)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=_EXPORT_QUEUE_MAX))
    _state.provider = provider
    _state.tracer = provider.get_tracer("nexus")
    _state.propagator = TraceContextTextMapPropagator()


def stop() -> None:
    """Sends what is left and ends the exporter. Cost: waits for the endpoint, for seconds."""
    if _state.provider is not None:
        _state.provider.shutdown()
    _state.provider = _state.tracer = _state.propagator = None


def span(
    name: str, /, parent: Mapping[str, str] | None = None, **attributes: Value
) -> AbstractContextManager[None]:
    """Traces a block. `parent`: headers with a `traceparent`; without, the span around, if any."""
    if _state.tracer is None:
        return _OFF
    return _recorded(name, parent, attributes)


def headers() -> dict[str, str]:
    """`traceparent` of the current span, to send along; empty while off."""
    carrier: dict[str, str] = {}
    if _state.propagator is not None:
        _state.propagator.inject(carrier)
    return carrier


@contextmanager
def _recorded(
    name: str, parent: Mapping[str, str] | None, attributes: Mapping[str, Value]
) -> Iterator[None]:
    context = None
    if parent:
        lower = {key.lower(): value for key, value in parent.items()}
        context = _state.propagator.extract(lower)
    with _state.tracer.start_as_current_span(name, context=context, attributes=attributes):
        yield
