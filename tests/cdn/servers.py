"""nginx and Varnish as the documents have them: the files of ops/deploy/cdn, with only the folders,
ports and keys of the machine replaced.

They run in the foreground in a folder of the test's, on loopback and unix sockets.
"""

import shlex
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.end_to_end.family import fetch, free_port, wait_until

FILES = Path(__file__).parents[2] / "ops" / "deploy" / "cdn"
START_SECONDS = 30.0
NGINX = """
daemon off;
user root;
worker_processes 1;
worker_rlimit_nofile 65536;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log notice;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
    include conf.d/*.conf;
}}
"""


class _Server:
    """A program that runs until left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, words: list[str]) -> None:
        with (self.folder / "output.log").open("ab") as log:
            self.process = subprocess.Popen(
                words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder
            )

    def running(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"it ended:\n{self.log()}"
        return True

    def log(self) -> str:
        return (self.folder / "output.log").read_text(errors="replace")[-4_000:]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Nginx(_Server):
    """One of the two roles: "remote" (with Varnish behind) or "origin" (on the origin's host)."""

    def __init__(
        self,
        folder: Path,
        role: str,
        *,
        replaced: dict[str, str],
        secrets: str,
        site: str = "",
        key: str = "",
        port: int = 0,
    ) -> None:
        super().__init__(folder)
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        text = (FILES / role / "nginx.conf").read_text()
        for old, new in replaced.items():
            assert old in text, old
            text = text.replace(old, new)
        self._write("conf.d/nexus.conf", text)
        self._write("nginx.conf", NGINX.format(folder=folder))
        self._write("nexus/secrets.conf", secrets)
        self._write(
            "nexus/site.conf", site or f"listen 127.0.0.1:{self.port} reuseport backlog=4096;"
        )
        self._write("nexus/key.conf", f'proxy_set_header Authorization "Bearer {key}";')

    def __enter__(self) -> Self:
        self.run(["nginx", "-p", str(self.folder), "-c", str(self.folder / "nginx.conf")])
        wait_until("nginx answers", self._answers, START_SECONDS)
        return self

    def write_secrets(self, text: str) -> None:
        """Another secrets.conf, taken over as `systemctl reload nginx` does."""
        self._write("nexus/secrets.conf", text)
        words = ["-p", str(self.folder), "-c", str(self.folder / "nginx.conf"), "-s", "reload"]
        subprocess.run(["nginx", *words], check=True, capture_output=True)

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def _answers(self) -> bool:
        self.running()
        try:
            fetch(f"{self.url}/", timeout=1.0)
        except OSError:
            return False
        return True


class Varnish(_Server):
    """Varnish by the line and the files of the documents, for one origin."""

    def __init__(self, folder: Path, *, origin_port: int, key: str) -> None:
        super().__init__(folder)
        self.socket = folder / "viewers.sock"
        shutil.copy(FILES / "remote" / "varnish.vcl", folder)
        text = (FILES / "remote" / "origin.vcl").read_text()
        for old, new in (
            ("203.0.113.7", "127.0.0.1"),
            ('"8080"', f'"{origin_port}"'),
            ("KEY-OF-THIS-EDGE", key),
        ):
            assert old in text, old
            text = text.replace(old, new)
        (folder / "origin.vcl").write_text(text)
        (folder / "secret").write_text("secret\n")

    def words(self) -> list[str]:
        """The documented command, in this folder, as whoever runs the tests."""
        unit = (FILES / "remote" / "varnish.conf").read_text()
        line = unit.splitlines()[-1].removeprefix("ExecStart=")
        for old, new in (
            ("/usr/sbin/varnishd -j unix,user=vcache", f"varnishd -j none -n {self.folder}/work"),
            ("/run/nexus-varnish/viewers.sock,user=www-data,mode=0600", f"{self.socket}"),
            ("-T localhost:6082", "-T 127.0.0.1:0"),
            ("/etc/varnish/secret", f"{self.folder}/secret"),
            ("/etc/varnish/nexus/varnish.vcl", f"{self.folder}/varnish.vcl"),
        ):
            assert old in line, old
            line = line.replace(old, new)
        # Counters are exact after each request, not after some.
        return [*shlex.split(line), "-p", "thread_stats_rate=1"]

    def __enter__(self) -> Self:
        self.run(self.words())
        wait_until("Varnish runs", self._ready, START_SECONDS)
        return self

    def admin(self, *words: str) -> str:
        """What `varnishadm` says."""
        return subprocess.run(
            ["varnishadm", "-n", f"{self.folder}/work", *words],
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def counter(self, name: str) -> int:
        """A counter of varnishstat's, such as MAIN.backend_req."""
        said = subprocess.run(
            ["varnishstat", "-1", "-n", f"{self.folder}/work", "-f", name],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        return int(said.split()[1])

    def _ready(self) -> bool:
        self.running()
        try:
            return "running" in self.admin("status") and "healthy" in self.admin("backend.list")
        except subprocess.CalledProcessError:
            return False


class RemoteEdge:
    """Varnish and nginx of one remote edge."""

    def __init__(self, folder: Path, *, origin_port: int, key: str, secrets: str) -> None:
        self._stack = ExitStack()
        self.varnish = Varnish(folder / "varnish", origin_port=origin_port, key=key)
        self.nginx = Nginx(
            folder / "nginx",
            "remote",
            replaced={"/run/nexus-varnish/viewers.sock": str(self.varnish.socket)},
            secrets=secrets,
        )
        self.url = self.nginx.url

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.varnish)
            stack.enter_context(self.nginx)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
