"""`nexus events`: dead events are listed with their reasons, tried again, or given up."""

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
INSERT INTO guest_list.parked
    (tenant, consumer, event, key, envelope, tries, dead, error, next_try_at)
VALUES ('acme', 'guest-list', $1, 'thg_1', '{}', 5, true, 'ValueError: no', now())
"""
WAITING = "SELECT coalesce(string_agg(event, ' ' ORDER BY event), '') FROM guest_list.parked"


@pytest.fixture
def dead(postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Postgres:
    """A database with three dead events."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEXUS_DATABASE_URL", postgres.url)
    asyncio.run(migrate(postgres.admin_url, schemas((SERVICE,)), logins=(LOGIN,)))
    for number in range(3):
        postgres.run(INSERT, f"evt_{number}")
    return postgres


def run(*words: str) -> int:
    return command.run(["events", *words, "--service=guest-list", "--log.level=error"])


def test_dead_events_are_listed(dead: Postgres, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("dead") == 0
    told = capsys.readouterr().out
    assert "evt_1  key thg_1  tenant acme  failed 5\n    ValueError: no\n" in told
    assert run("dead", "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["event"] for row in rows] == ["evt_0", "evt_1", "evt_2"]
    assert dead.run(f"{WAITING} WHERE NOT dead") == ""


def test_they_are_tried_again(dead: Postgres, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("replay", "--id=evt_1") == 0
    assert dead.run(f"{WAITING} WHERE NOT dead AND tries = 0") == "evt_1"
    assert run("replay") == 0
    assert capsys.readouterr().out == "1 tried again\n2 tried again\n"
    assert run("replay") == 1
    assert "no such event is dead" in capsys.readouterr().err


def test_one_is_given_up(dead: Postgres, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("discard", "--id=evt_1") == 0
    assert dead.run(WAITING) == "evt_0 evt_2"
    assert capsys.readouterr().out == "1 discarded\n"
