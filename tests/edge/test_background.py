"""The role `worker`: jobs, schedules and events of real services, through faults."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from edge import background
from edge.settings import Settings
from ops.inherited import Inherited
from ops.tasks import SupervisedGroup
from services._kit.load import load_all
from tests.fakes.calls import Calls, served
from tests.fakes.postgres import Postgres
from tests.fakes.state_node import StateNode, data_directory, until

START_SECONDS = 60.0
WAIT_SECONDS = 20.0
SHOW = {"name": "Show", "capacity": 4, "ends_at": "2030-01-01T00:00:00Z"}
ADA = {"name": "Ada", "email": "ada@example.org", "seats": 2}


@pytest.fixture
def settings(postgres: Postgres, tmp_path: Path) -> Settings:
    """Of a worker on the test's database, with the keys that the tests' calls seal with."""
    made = Settings()
    keys = tmp_path / "eu1" / "keys.json"
    keys.parent.mkdir()
    keys.write_text(json.dumps({"1": bytes(32).hex()}))
    return replace(
        made,
        database=replace(made.database, url=postgres.url),
        state=replace(made.state, data_dir=tmp_path),
        jobs=replace(made.jobs, poll_seconds=0.2),
    )


@asynccontextmanager
async def working(settings: Settings) -> AsyncIterator[None]:
    """A worker in this process."""
    async with SupervisedGroup("worker under test") as group:
        task = group.start("worker", background.run(settings, Inherited()))
        yield
        assert not task.done(), "it stays alive"


async def invite(calls: Calls) -> str:
    """A list with one guest; its id."""
    show = await calls.told("guest-list.create_guest_list", body=SHOW)
    await calls.told("guest-list.invite", body=ADA, path={"id": show["id"]})
    return str(show["id"])


async def become(true: Callable[[], object]) -> None:
    """Waits until something is so in the database."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not true():  # noqa: ASYNC110  a row of a database
            await asyncio.sleep(0.05)


async def test_it_runs_jobs_and_carries_events(postgres: Postgres, settings: Settings) -> None:
    async with served(postgres, *load_all()) as calls, working(settings):
        await invite(calls)
        await become(lambda: postgres.run("SELECT count(*) FROM guest_list.invitation") == 1)
        await become(lambda: postgres.run("SELECT count(*) FROM guest_list.job") == 0)

        async def is_listed() -> bool:
            listed = await calls.told("guest-list.guest_lists")
            return [item["taken"] for item in listed["data"]] == [2]

        async with asyncio.timeout(WAIT_SECONDS):
            while not await is_listed():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        schedules = postgres.run("SELECT count(*) FROM guest_list.job_schedule")
        assert schedules == 1


async def test_it_waits_for_its_tables(postgres: Postgres, settings: Settings) -> None:
    async with working(settings):
        await asyncio.sleep(0.1)
        async with served(postgres, *load_all()) as calls:
            await invite(calls)
            await become(lambda: postgres.run("SELECT count(*) FROM guest_list.invitation") == 1)


async def test_its_jobs_write_as_the_service_in_one_tenant(
    postgres: Postgres, settings: Settings
) -> None:
    async with served(postgres, *load_all()) as calls, working(settings):
        await invite(calls)
        await become(lambda: postgres.run("SELECT count(*) FROM guest_list.invitation") == 1)
        assert postgres.run("SELECT tenant FROM guest_list.invitation") == "acme"


def children(node: StateNode) -> dict[str, int]:
    try:
        facts = json.loads((node.run_dir / "supervisor.json").read_text())
    except (OSError, ValueError):
        return {}
    return {name: int(pid) for name, pid in facts["children"].items() if pid}


@contextmanager
def begun(node: StateNode) -> Iterator[StateNode]:
    """Started, and stopped whatever happens."""
    node.begin()
    try:
        yield node
    finally:
        node.__exit__()


def test_a_node_keeps_its_workers_through_faults(tmp_path: Path) -> None:
    options = {"NEXUS_NODE_ROLES": "state,worker", "NEXUS_JOBS_WORKERS": "2"}
    with data_directory() as data, begun(StateNode(data, tmp_path, **options)) as node:
        until("all are ready", lambda: node.said("child is ready") >= 3, START_SECONDS)
        before = children(node)
        assert set(before) == {"state-0", "worker-0", "worker-1"}
        os.kill(before["worker-0"], signal.SIGKILL)
        until("it is ready again", lambda: node.said("child is ready") >= 4, WAIT_SECONDS)
        assert children(node)["worker-0"] != before["worker-0"]
        os.kill(node.servers()["postgres"], signal.SIGKILL)
        until("the database is back", node.answers)
        job = (
            "INSERT INTO guest_list.job (id, tenant, name, arguments, state, run_at)"
            " VALUES ('job_x', 'acme', 'write_invitation', $1, 'ready', now())"
        )
        node.ask(job, b'{"guest":"gst_unknown"}')
        gone = "SELECT count(*) FROM guest_list.job WHERE id = 'job_x'"
        until("jobs run again", lambda: node.ask(gone) == 0, WAIT_SECONDS)
        assert children(node)["worker-1"] == before["worker-1"], "it lived through it"
    assert node.process is not None
    assert node.process.returncode == 0, node.log()
    assert "did not stop in time" not in node.log()
