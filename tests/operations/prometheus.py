"""A real Prometheus (Debian) that scrapes one node: started, asked, ended."""

import json
import subprocess
import urllib.parse
from pathlib import Path
from typing import Any, Self

from tests.end_to_end.family import fetch, free_port, wait_until

START_SECONDS = 30.0
CONFIG = """global:
  scrape_interval: 1s
  scrape_timeout: 1s
  evaluation_interval: 1s
rule_files: [{rules}]
scrape_configs:
  - job_name: nexus
    authorization: {{credentials: {key}}}
    static_configs: [{{targets: ["{target}"]}}]
"""


class Prometheus:
    """Enter to start, leave to stop. `rules`: the file of alerts; `key`: one that may control."""

    def __init__(self, directory: Path, *, target: str, rules: Path, key: str) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self._directory = directory
        self._config = directory / "prometheus.yml"
        self._config.write_text(
            CONFIG.format(rules=json.dumps(str(rules)), target=target, key=json.dumps(key))
        )
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        words = [
            "prometheus",
            f"--config.file={self._config}",
            f"--storage.tsdb.path={self._directory / 'prometheus'}",
            f"--web.listen-address={self.url.removeprefix('http://')}",
        ]
        log = self._directory / "prometheus.log"
        with log.open("wb") as file:
            self._process = subprocess.Popen(words, stdout=file, stderr=file)
        try:
            wait_until("Prometheus is ready", self._ready, START_SECONDS)
        except AssertionError:
            self.__exit__()
            raise AssertionError(log.read_text()[-4_000:]) from None
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(10)

    def values(self, query: str) -> list[float]:
        """The present value of each series that a query gives. Raises AssertionError for one that
        cannot be read."""
        result = self._get("/api/v1/query", query=query)["result"]
        return [float(series["value"][1]) for series in result]

    def rules(self) -> list[dict[str, Any]]:
        """Every rule with its health and state."""
        return [rule for group in self._get("/api/v1/rules")["groups"] for rule in group["rules"]]

    def _ready(self) -> bool:
        try:
            return fetch(f"{self.url}/-/ready")[0] == 200
        except OSError:
            return False

    def _get(self, path: str, **query: str) -> Any:
        status, body = fetch(f"{self.url}{path}?{urllib.parse.urlencode(query)}")
        assert status == 200, (query, body)
        return json.loads(body)["data"]
