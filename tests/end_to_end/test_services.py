"""Business services on a whole node: real servers, the public port, a token, restarts."""

from collections.abc import Iterator

import pytest

from tests.end_to_end.family import wait_until
from tests.end_to_end.service_node import Node
from tests.fakes.state_node import data_directory

LISTS = "/v1/guest-list/guest-lists"
SHOW = {"name": "Show", "capacity": 4, "ends_at": "2030-01-01T00:00:00Z"}


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
