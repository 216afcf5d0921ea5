"""What the doctor finds of state: places that can be used and that cannot, servers of yours."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge.doctor_state import examine
from edge.finding import Finding
from edge.settings import Settings
from ops.db import DatabaseSettings
from ops.state.claim import family_claim
from ops.state.settings import RedisSettings, StateSettings
from tests.fakes.postgres import Postgres
from tests.fakes.state_node import data_directory


@pytest.fixture
def data() -> Iterator[Path]:
    with data_directory() as path:
        yield path


def settings(data: Path) -> Settings:
    return replace(Settings(), state=StateSettings(data_dir=data))


def found(settings: Settings) -> dict[str, Finding]:
    return {finding.check: finding for finding in examine(settings)}


def test_a_place_that_can_be_used(data: Path) -> None:
    findings = found(settings(data / "not" / "there"))
    assert findings["state servers"].state == "ok", findings
    assert findings["state directory"].state in {"ok", "warn"}, findings
    assert "MiB free" in findings["state directory"].detail
    assert list(data.iterdir()) == [], "it makes nothing"


def test_a_place_that_cannot() -> None:
    finding = found(settings(Path("/proc/nowhere")))["state directory"]
    assert (finding.state, finding.advice) == ("fail", "set state.data_dir")


def test_a_place_in_use_is_named_with_its_holder(data: Path) -> None:
    here = settings(data)
    with family_claim(here, holder="a node of the test"):
        finding = found(here)["state directory"]
    assert finding.state == "warn"
    assert "a node of the test" in finding.detail
    assert found(here)["state directory"].state in {"ok", "warn"}


def test_nodes_without_state_are_not_asked(data: Path) -> None:
    here = settings(data)
    assert found(replace(here, node=replace(here.node, roles=("edge", "media")))) == {}


def test_servers_of_yours_that_answer(data: Path, postgres: Postgres) -> None:
    database = DatabaseSettings(url=postgres.url, admin_url=postgres.admin_url)
    finding = found(replace(settings(data), database=database))["database.url"]
    assert (finding.state, finding.detail) == ("ok", "PostgreSQL 18 answers")
    alone = replace(settings(data), database=DatabaseSettings(url=postgres.url))
    finding = found(alone)["database.url"]
    assert (finding.state, finding.detail) == ("warn", "nobody may migrate")
    assert "database.admin_url" in finding.advice


def test_servers_of_yours_that_do_not_answer(data: Path) -> None:
    away = replace(
        settings(data),
        database=DatabaseSettings(url="postgresql://app:letmein@127.0.0.1:1/nexus"),
        redis=RedisSettings(url="redis://:letmein@127.0.0.1:1"),
    )
    findings = found(away)
    for check in ("database.url", "redis.url"):
        assert findings[check].state == "fail"
        assert findings[check].detail.startswith("it does not answer: ")
        assert "letmein" not in findings[check].detail
        assert findings[check].advice
    assert set(findings) == {"database.url", "redis.url"}
