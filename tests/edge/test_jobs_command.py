"""`nexus jobs`: dead jobs are listed with their reasons, and tried again."""

import asyncio
import json
from pathlib import Path

import pytest

from edge import command
from ops.migrate import migrate
from services._kit.load import schemas
from services.entertainment.guest_list.service import SERVICE
from tests.fakes.postgres import LOGIN, Postgres

INSERT = """
INSERT INTO guest_list.job (id, tenant, name, arguments, unique_key, state, failures, error,
    run_at, ended_at)
VALUES ($1, 'acme', $2, '{}', $3, 'dead', 6, 'ValueError: no', now(), now())
"""


@pytest.fixture
def dead(postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Postgres:
    """A database with three dead jobs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEXUS_DATABASE_URL", postgres.url)
    asyncio.run(migrate(postgres.admin_url, schemas((SERVICE,)), logins=(LOGIN,)))
    for number, (name, key) in enumerate([("invite", ""), ("invite", "k"), ("close", "")]):
        postgres.run(INSERT, f"job_{number}", name, key)
    return postgres


def run(*words: str) -> int:
    return command.run(["jobs", *words, "--log.level=error"])


def ready(database: Postgres) -> str:
    sql = "SELECT coalesce(string_agg(id, ' ' ORDER BY id), '') FROM guest_list.job"
    return str(database.run(f"{sql} WHERE state = 'ready' AND failures = 0"))


def test_dead_jobs_are_listed(dead: Postgres, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("dead", "--service=guest-list", "--job=close") == 0
    told = capsys.readouterr().out
    assert "guest-list.close  job_2  tenant acme  failed 6, lost 0" in told
    assert "ValueError: no" in told
    assert "invite" not in told
    assert run("dead", "--service=guest-list", "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["id"] for row in rows} == {"job_0", "job_1", "job_2"}
    assert ready(dead) == ""


def test_they_are_tried_again(dead: Postgres, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("replay", "--service=guest-list", "--id=job_2") == 0
    assert ready(dead) == "job_2"
    assert run("replay", "--service=guest-list", "--job=invite") == 0
    assert ready(dead) == "job_0 job_1 job_2"
    assert capsys.readouterr().out == "1 tried again\n2 tried again\n"
    assert run("replay", "--service=guest-list", "--id=job_2") == 1
    assert "no such job is dead" in capsys.readouterr().err


def test_a_key_that_is_taken_is_told(dead: Postgres, capsys: pytest.CaptureFixture[str]) -> None:
    sql = "UPDATE guest_list.job SET name = 'invite', unique_key = 'k', state = 'ready',"
    dead.run(f"{sql} ended_at = NULL WHERE id = 'job_2'")
    assert run("replay", "--service=guest-list") == 0
    assert capsys.readouterr().out == "1 tried again; 1 not: one with their key waits or runs\n"


def test_unknown_service_and_away_database(
    dead: Postgres, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("dead", "--service=nobody") == 1
    assert "nobody" in capsys.readouterr().err
    monkeypatch.setenv("NEXUS_DATABASE_URL", dead.url.replace("host=", "host=/nowhere"))
    assert run("dead", "--service=guest-list") == 1
    assert "the database cannot be reached" in capsys.readouterr().err
