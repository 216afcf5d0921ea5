"""Spans: nothing while off, real OTLP requests while on."""

import http.server
import threading
from collections.abc import Iterator

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ops import tracing

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Collector(http.server.BaseHTTPRequestHandler):
    bodies: list[tuple[str | None, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.bodies.append((self.headers["Authorization"], body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        return


@pytest.fixture
def collector() -> Iterator[tuple[str, list[tuple[str | None, bytes]]]]:
    Collector.bodies = []
    server = http.server.HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1/traces", Collector.bodies
    server.shutdown()
    thread.join()
    server.server_close()


def test_off_costs_nothing() -> None:
    tracing.start(tracing.TracingSettings(), role="edge", slot=0)
    assert tracing.span("a") is tracing.span("b", n=1)
    with tracing.span("a"):
        assert tracing.headers() == {}


def test_spans_reach_the_collector(collector: tuple[str, list[tuple[str | None, bytes]]]) -> None:
    url, bodies = collector
    settings = tracing.TracingSettings(endpoint=url, sample_ratio=1.0, authorization="Basic x")
    tracing.start(settings, role="media", slot=0)
    try:
        with tracing.span("outer", parent={"Traceparent": PARENT}, stream="show"):
            assert tracing.headers()["traceparent"].startswith(PARENT[:35])
            with tracing.span("inner"):
                pass
    finally:
        tracing.stop()
    spans = {}
    for authorization, body in bodies:
        assert authorization == "Basic x"
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            names = {item.key: item.value.string_value for item in resource.resource.attributes}
            assert names["service.instance.id"] == "media-0"
            for scope in resource.scope_spans:
                spans |= {span.name: span for span in scope.spans}
    assert set(spans) == {"outer", "inner"}
    assert spans["outer"].trace_id.hex() == PARENT[3:35]
    assert spans["inner"].parent_span_id == spans["outer"].span_id
    assert tracing.headers() == {}
