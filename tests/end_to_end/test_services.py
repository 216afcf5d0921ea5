"""Business services on a whole node: real servers, the public port, a token, restarts."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.family import Family, wait_until
from tests.fakes.state_node import data_directory

LISTS = "/v1/guest-list/guest-lists"
SHOW = {"name": "Show", "capacity": 4, "ends_at": "2030-01-01T00:00:00Z"}


class Node(Family):
    """A node with state, and somebody who may do everything in a tenant of it."""

    def __init__(self, directory: Path, data: Path) -> None:
        roles = {"NEXUS_NODE_ROLES": "edge,media,state,worker", "NEXUS_EDGE_WORKERS": "1"}
        super().__init__(directory, **roles, NEXUS_STATE_DATA_DIR=str(data))
        self.token = ""

    def start(self) -> None:
        super().start()
        self.sign_in()
        wait_until("its state is ready", self.has_state, 30)

    def has_state(self) -> bool:
        """Whether the servers of this start answer, and every schema is made."""
        started = self.log_path.read_text().rpartition('"node starts"')[2]
        ready = [line for line in started.splitlines() if '"child is ready"' in line]
        return any('"state-0"' in line for line in ready)

    def sign_in(self, tenant: str = "acme") -> None:
        """By the command that stands in for the identity services."""
        arguments = ("token", "--tenant", tenant, "--subject", "usr_1", "--permissions", "*")
        done = subprocess.run(
            [sys.executable, "-m", "edge.main", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        self.token = done.stdout.strip()

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON of an answer; status 0: no connection."""
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(self.url + path, data, headers, method=method)
        if self.token:
            asked.add_header("Authorization", f"Bearer {self.token}")
        if data is not None:
            asked.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(asked, timeout=10) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as fault:
            return fault.code, json.loads(fault.read() or b"null")
        except OSError:
            return 0, None


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with data_directory() as data, Node(tmp_path_factory.mktemp("node"), data) as made:
        yield made


def test_a_service_answers_by_http_and_graphql(node: Node) -> None:
    status, show = node.ask("POST", LISTS, SHOW)
    assert status == 201, show
    assert show["taken"] == 0
    guest = {"name": "Ada", "email": "ada@example.org", "seats": 2}
    status, ada = node.ask("POST", f"{LISTS}/{show['id']}/guests", guest)
    assert (status, ada["status"]) == (201, "invited")
    query = "query($id: ID!) { guestList(id: $id) { name taken capacity } }"
    asked = {"query": query, "variables": {"id": show["id"]}}
    status, told = node.ask("POST", "/v1/backend-api/graphql", asked)
    assert status == 200
    assert "errors" not in told, told
    (found,) = told["data"].values()
    assert found == {"name": "Show", "taken": 2, "capacity": 4}


def test_what_is_done_in_the_background_is_done(node: Node) -> None:
    _, show = node.ask("POST", LISTS, SHOW)
    guest = {"name": "Bob", "email": "bob@example.org"}
    _, bob = node.ask("POST", f"{LISTS}/{show['id']}/guests", guest)
    assert node.ask("POST", f"{LISTS}/{show['id']}/guests/{bob['id']}:admit")[0] == 200
    # The read model follows, and the consumer of the admission counts it, once.
    wait_until(
        "the guest is in the read model",
        lambda: (
            node.ask("GET", f"/v1/guest-list/guests/{bob['id']}")[1].get("status") == "admitted"
        ),
        15,
    )
    wait_until(
        "the arrival is counted",
        lambda: node.ask("GET", f"{LISTS}/{show['id']}")[1]["arrived"] == 1,
        15,
    )


def test_who_may_not_is_told_so(node: Node) -> None:
    token, node.token = node.token, ""
    assert node.ask("GET", LISTS)[1]["code"] == "auth.missing"
    node.token = token + "x"
    assert node.ask("GET", LISTS)[0] == 401
    node.sign_in("other")
    assert node.ask("GET", LISTS) == (200, {"data": [], "next_cursor": None})
    node.token = token


def test_the_descriptions_are_served(node: Node) -> None:
    status, document = node.ask("GET", "/openapi.json")
    assert (status, document["openapi"]) == (200, "3.1.0")
    assert f"{LISTS}/{{id}}" in document["paths"]


def test_all_is_there_after_a_restart(node: Node) -> None:
    _, show = node.ask("POST", LISTS, SHOW)
    token = node.token
    node.stop()
    node.start()
    # The old token still holds: its keys are with the region's state.
    node.token = token
    status, found = node.ask("GET", f"{LISTS}/{show['id']}")
    assert (status, found["name"]) == (200, "Show")
