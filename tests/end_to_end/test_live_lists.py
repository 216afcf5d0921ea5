"""Lists followed on a whole node: changes of others come at once, and a killed edge loses nothing.

The writer and the follower are clients of their own; both come again when their connection is cut.
"""

import http.client
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import Any, Self

import pytest

from tests.end_to_end.family import wait_until
from tests.end_to_end.test_services import LISTS, SHOW, Node
from tests.fakes.follower import Follower
from tests.fakes.state_node import data_directory

GUESTS = 45
KILLS = 3
SOON_SECONDS = 1.0
DEADLINE_SECONDS = 40.0


class Watcher(threading.Thread):
    """Follows a list for as long as it is entered, over as many connections as it takes."""

    def __init__(self, node: Node, path: str) -> None:
        super().__init__(daemon=True)
        self.seen = Follower()
        self.connections = 0
        self._url, self._token = node.url + path, node.token
        self._over = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        wait_until("the page has come", lambda: self.seen.events, DEADLINE_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join(DEADLINE_SECONDS)
        assert not self.is_alive()

    def run(self) -> None:
        while not self._over.wait(0.05):
            try:
                self._follow()
            except (OSError, http.client.HTTPException):
                continue

    def _follow(self) -> None:
        self.seen.cut()
        asked = urllib.request.Request(self._url)
        asked.add_header("Authorization", f"Bearer {self._token}")
        asked.add_header("Accept", "text/event-stream")
        if self.seen.last_id:
            asked.add_header("Last-Event-ID", self.seen.last_id)
        with urllib.request.urlopen(asked, timeout=10) as answer:
            self.connections += 1
            while not self._over.is_set() and (data := answer.read1(65_536)):
                self.seen.feed(data)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with data_directory() as data:
        made = Node(tmp_path_factory.mktemp("node"), data)
        made.environment |= {
            "NEXUS_EDGE_WORKERS": "2",
            # So that a reader notices soon that it is to stop.
            "NEXUS_LIVE_HEARTBEAT_SECONDS": "0.3",
        }
        with made:
            yield made


def written(node: Node, path: str, body: object, key: str) -> Any:
    """The answer to a write that is repeated until there is one."""
    found: list[Any] = []

    def done() -> bool:
        status, answer = node.ask("POST", path, body, **{"Idempotency-Key": f'"{key}"'})
        assert status in {0, 200, 201, 429, 502, 503, 504}, (status, answer)
        found[:] = [answer] if status in {200, 201} else []
        return bool(found)

    wait_until(f"it is written: {path}", done, DEADLINE_SECONDS)
    return found[0]


def listed(node: Node, path: str) -> dict[str, Any]:
    """The plain list, by id; nothing while nobody answers."""
    status, answer = node.ask("GET", path)
    return {item["id"]: item for item in answer["data"]} if status == 200 else {}


def test_a_change_is_seen_soon(node: Node) -> None:
    with Watcher(node, LISTS) as watcher:
        took = []
        for number in range(5):
            began = time.monotonic()
            made = written(node, LISTS, SHOW | {"name": f"Show {number}"}, f"soon-{number}")
            wait_until(
                "the change is told",
                lambda name=made["id"]: name in watcher.seen.items,
                DEADLINE_SECONDS,
                every=0.005,
            )
            took.append(time.monotonic() - began)
        assert min(took) < SOON_SECONDS, took
        assert watcher.connections == 1
    print(f"seconds until a change was told: {sorted(took)}")  # noqa: T201


def test_a_strangers_list_stays_empty(node: Node) -> None:
    ours = node.token
    node.sign_in("another")
    with Watcher(node, LISTS) as theirs:
        assert theirs.seen.items == {}
        node.token = ours
        with Watcher(node, LISTS) as watcher:
            made = written(node, LISTS, SHOW, "not-theirs")
            wait_until("it is told", lambda: made["id"] in watcher.seen.items, DEADLINE_SECONDS)
        assert theirs.seen.kinds == ["page"]


def test_a_killed_edge_loses_and_doubles_nothing(node: Node) -> None:
    show = written(node, LISTS, SHOW | {"capacity": 1_000}, "the show")
    path = f"{LISTS}/{show['id']}/guests"
    with Watcher(node, f"{path}?limit=200") as watcher:
        for number in range(GUESTS):
            if number % (GUESTS // KILLS) == GUESTS // KILLS // 2:
                for pid in node.pids("edge"):
                    os.kill(pid, signal.SIGKILL)
            body = {"name": f"Guest {number:03}", "email": f"guest{number}@example.org"}
            guest = written(node, path, body, f"guest {number}")
            if number % 3 == 0:
                written(node, f"{path}/{guest['id']}:admit", None, f"admit {number}")
        wait_until("all are admitted who should be", lambda: _admitted(node, path), 40)
        wait_until(
            "the follower has the list",
            lambda: watcher.seen.items == listed(node, f"{path}?limit=200"),
            DEADLINE_SECONDS,
        )
        seen = watcher.seen
        assert watcher.connections > 1, "nobody was cut off"
        assert len(seen.items) == GUESTS
        assert seen.doubled == []
        assert seen.kinds.count("page") == 1, "it always went on where it was"
        made = Counter(event.data["id"] for event in seen.events if event.kind == "created")
        assert set(made.values()) == {1}
        changed = Counter(event.data["id"] for event in seen.events if event.kind == "updated")
        assert set(changed.values()) <= {1}, "each was admitted once"


def _admitted(node: Node, path: str) -> bool:
    found = listed(node, f"{path}?limit=200").values()
    return sum(guest["status"] == "admitted" for guest in found) == GUESTS // 3
