"""Two whole nodes side by side on one machine: `nexus up --region eu1` and `--region us1`.

Each with its own PostgreSQL, edge workers and ports; one data directory, one key file for tokens.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any, Self

import pytest

from ops.clock import SYSTEM
from ops.ids import IdMaker
from ops.tokens import Issuer, load_keys
from tests.fakes.state_node import ROOT, ask_postgres, data_directory, until

READY_SECONDS = 60.0
STOP_SECONDS = 20.0
LISTS = "/v1/guest-list/guest-lists"
EU_BORN = IdMaker("eu1").new("ten")
US_BORN = IdMaker("us1").new("ten")
KEY = "what the two nodes know each other by"


class Node:
    """One region's node. Enter to start it, leave to stop it."""

    def __init__(self, region: str, *, port: int, other: tuple[str, int], folder: Path) -> None:
        self.region, self.folder = region, folder
        self.data = folder / "data"
        self.url = f"http://127.0.0.1:{port}"
        peer = {"region": other[0], "url": f"http://127.0.0.1:{other[1]}", "key": KEY}
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "NEXUS_NODE_ROLES": "edge,state",
            "NEXUS_NODE_RUN_DIR": str(folder / f"run-{region}"),
            "NEXUS_EDGE_LISTEN": f"127.0.0.1:{port}",
            "NEXUS_EDGE_WORKERS": "1",
            "NEXUS_STATE_DATA_DIR": str(self.data),
            "NEXUS_TOKENS_KEY_FILE": str(folder / "token-keys.json"),
            "NEXUS_REGIONS_DIRECTORY": "eu1",
            "NEXUS_REGIONS_PEERS": json.dumps([peer]),
            "NEXUS_REGIONS_PULL_SECONDS": "0.2",
            "NEXUS_REGIONS_LOOK_SECONDS": "0.2",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Starts it, and waits for nothing."""
        words = ["up", "--no-demo", "--region", self.region]
        with (self.folder / f"{self.region}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "edge.main", *words],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def stop(self) -> None:
        """Ends it and its servers."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(STOP_SECONDS)

    def served(self, tenant: str) -> bool:
        """Whether it answers for a tenant; its log, when it has ended."""
        assert self.process is not None
        log = self.folder / f"{self.region}.log"
        assert self.process.poll() is None, log.read_text()[-4_000:]
        try:
            return self.ask("GET", LISTS, tenant=tenant)[0] == 200
        except OSError:
            return False

    def ask(
        self, method: str, path: str, *, tenant: str, body: Any = None, **headers: str
    ) -> tuple[int, Message, Any]:
        """Status, headers and JSON of an answer."""
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {self._token(tenant)}",
                "Content-Type": "application/json",
                **{name.replace("_", "-"): value for name, value in headers.items()},
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.headers, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as refused:
            return refused.code, refused.headers, json.loads(refused.read() or b"null")

    def make(self, name: str, *, tenant: str) -> tuple[int, Message, Any]:
        """Makes a guest list."""
        body = {"name": name, "capacity": 10, "ends_at": "2030-01-01T00:00:00Z"}
        return self.ask("POST", LISTS, tenant=tenant, body=body)

    def name(self, made: dict[str, Any], *, tenant: str) -> str:
        """What this door tells of a guest list."""
        status, _, told = self.ask("GET", f"{LISTS}/{made['id']}", tenant=tenant)
        assert status == 200, told
        return str(told["name"])

    def audited(self, tenant: str) -> int:
        """How many writes of a tenant are in this region's own database."""
        url = f"postgresql://nexus_admin@/nexus?host={self.data / self.region / 'postgres'}"
        sql = "SELECT count(*) FROM guest_list.audit WHERE tenant = $1"
        return int(ask_postgres(url, sql, tenant))

    def _token(self, tenant: str) -> str:
        issuer = Issuer(load_keys(self.folder / "token-keys.json"), issuer="nexus")
        now = SYSTEM.unix()
        return issuer.issue("usr_1", tenant=tenant, permissions=["*"], seconds=600, now=now)


@pytest.fixture(scope="module")
def nodes() -> Iterator[tuple[Node, Node]]:
    with data_directory() as folder:
        (folder / "data").mkdir(mode=0o711)
        ports = free_ports(2)
        eu = Node("eu1", port=ports[0], other=("us1", ports[1]), folder=folder)
        us = Node("us1", port=ports[1], other=("eu1", ports[0]), folder=folder)
        with eu, us:
            until("both serve", lambda: eu.served(EU_BORN) and us.served(US_BORN), READY_SECONDS)
            yield eu, us


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody holds now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [int(sock.getsockname()[1]) for sock in sockets]
    for sock in sockets:
        sock.close()
    return found


def test_a_request_to_the_wrong_region_is_answered_from_the_right_one(
    nodes: tuple[Node, Node],
) -> None:
    eu, us = nodes
    status, headers, made = us.make("by the other door", tenant=EU_BORN)
    assert status == 201, made
    assert made["id"].startswith("gls_eu1_")
    assert headers["Proxy-Status"] == "nexus-us1; next-hop=eu1"
    for node in nodes:
        assert node.name(made, tenant=EU_BORN) == "by the other door"
    assert (eu.audited(EU_BORN), us.audited(EU_BORN)) == (1, 0)
    status, _, told = us.ask("GET", LISTS, tenant=EU_BORN, Nexus_Forward="no")
    assert (status, told["region"], told["url"]) == (421, "eu1", eu.url)


def test_a_name_lives_where_it_was_claimed(nodes: tuple[Node, Node]) -> None:
    eu, us = nodes
    assert us.make("first", tenant="acme")[0] == 201
    assert eu.make("second", tenant="acme")[0] == 201
    assert (eu.audited("acme"), us.audited("acme")) == (0, 2)


def test_the_right_region_down_is_503_and_nothing_is_written(nodes: tuple[Node, Node]) -> None:
    eu, us = nodes
    status, _, made = eu.make("before", tenant=US_BORN)
    assert status == 201
    us.stop()
    try:
        for status, headers, told in (
            eu.make("lost?", tenant=US_BORN),
            eu.ask("GET", LISTS, tenant=US_BORN),
        ):
            assert (status, told["code"]) == (503, "placement.away")
            assert int(headers["Retry-After"]) >= 1
            assert "error=connection_refused" in headers["Proxy-Status"]
        assert eu.audited(US_BORN) == 0
        assert eu.make("still here", tenant=EU_BORN)[0] == 201
    finally:
        us.start()
    began = time.monotonic()
    until("it is back", lambda: eu.served(US_BORN), READY_SECONDS)
    assert time.monotonic() - began < READY_SECONDS
    assert eu.name(made, tenant=US_BORN) == "before"
    assert us.audited(US_BORN) == 1
