"""An origin that answers what a test tells it to, and counts what it was asked.

`/livez` is healthy while `well`; every other path gets the present answer, after a wait.
"""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class FakeOrigin:
    """Enter to serve on loopback. Set its fields at any time."""

    def __init__(self) -> None:
        self.status = 200
        self.body = b"#EXTM3U\n"
        self.cache_control = "public, max-age=1"
        self.released = threading.Event()
        """Answers wait for this, at most ten seconds."""
        self.released.set()
        self.well = True
        self.asked: list[str] = []
        self.keys: set[str] = set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


def _handler(origin: FakeOrigin) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path == "/livez":
                self._say(200 if origin.well else 503, b"", "no-store")
                return
            origin.asked.append(self.path)
            origin.keys.add(self.headers.get("Authorization", ""))
            origin.released.wait(10)
            self._say(origin.status, origin.body, origin.cache_control)

        def _say(self, status: int, body: bytes, cache_control: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.apple.mpegurl")
            self.send_header("Cache-Control", cache_control)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    return Handler
