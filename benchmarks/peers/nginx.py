"""nginx serving files from memory: the rival for HLS bytes. It waits for nothing and makes nothing.

One worker, sendfile from tmpfs, open files remembered, no access log: as fast as it is known to be.
Its files are what `benchmarks/hls_load.py` has just been given by our server.
"""

import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from benchmarks.process import children

START_SECONDS: Final = 10.0
STOP_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.02
_CONFIG: Final = """
{user}daemon off;
worker_processes 1;
pid {root}/nginx.pid;
error_log {root}/error.log warn;
events {{ worker_connections 8192; use epoll; multi_accept on; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  tcp_nodelay on;
  keepalive_timeout 3600s;
  keepalive_requests 1000000000;
  open_file_cache max=1000 inactive=3600s;
  open_file_cache_valid 3600s;
  open_file_cache_min_uses 1;
  types {{ application/vnd.apple.mpegurl m3u8; video/mp4 m4s; }}
  client_body_temp_path {root}/body;
  proxy_temp_path {root}/proxy;
  fastcgi_temp_path {root}/fastcgi;
  uwsgi_temp_path {root}/uwsgi;
  scgi_temp_path {root}/scgi;
  server {{ listen 127.0.0.1:{port} backlog=4096; root {root}/files; }}
}}
"""


def find() -> str:
    """The nginx of this machine. Raises: LookupError when there is none."""
    found = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        raise LookupError("no nginx on this machine: install Debian's package nginx-light")
    return found


class Nginx:
    """One nginx. `with` it.

    Owns: its processes, and a folder in memory with its files.
    """

    def __init__(self, port: int, files: Mapping[str, bytes], *, binary: str = "") -> None:
        self.address = ("127.0.0.1", port)
        self._binary = binary or find()
        self._files = files
        self._root = Path()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def worker(self) -> int:
        """Process id of the worker."""
        assert self._process is not None
        found = children(self._process.pid)
        assert len(found) == 1, "nginx runs one worker"
        return found[0]

    def __enter__(self) -> Self:
        self._root = Path(tempfile.mkdtemp(prefix="nexus-nginx-", dir="/dev/shm"))
        for name, data in self._files.items():
            path = self._root / "files" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        user = "user root root;\n" if os.geteuid() == 0 else ""
        config = self._root / "nginx.conf"
        config.write_text(_CONFIG.format(root=self._root, port=self.address[1], user=user))
        self._process = subprocess.Popen(
            [self._binary, "-p", str(self._root), "-e", "error.log", "-c", str(config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self._until_ready()
        except TimeoutError:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _until_ready(self) -> None:
        assert self._process is not None
        url = f"http://127.0.0.1:{self.address[1]}/{next(iter(self._files))}"
        deadline = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(url, timeout=1):
                    return
            except OSError:
                time.sleep(_PAUSE_SECONDS)
        log = self._root / "error.log"
        said = log.read_text()[-500:] if log.exists() else ""
        raise TimeoutError(f"nginx does not serve: {said}")

    def _stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._root, ignore_errors=True)
