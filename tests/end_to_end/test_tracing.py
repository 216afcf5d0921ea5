"""Traces, off by default: with an endpoint set, requests and what they ask of media get there."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.family import Family, fetch, wait_until


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """A collector's address and the bodies it was sent."""
    bodies: list[bytes] = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", bodies
        server.shutdown()
        thread.join()


def test_a_request_is_traced_into_media(tmp_path: Path, collector: tuple[str, list[bytes]]) -> None:
    endpoint, bodies = collector
    with Family(
        tmp_path, NEXUS_TRACING_ENDPOINT=endpoint, NEXUS_TRACING_SAMPLE_RATIO="1"
    ) as family:
        assert fetch(f"{family.url}/api/v1/sessions")[0] == 200
        assert family.stop() == 0
    sent = b"".join(bodies)
    wait_until("the span of the request", lambda: b"GET /api/v1/sessions" in sent, 1)
    assert b"media Sessions" in sent
