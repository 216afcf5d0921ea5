"""Which addresses processes get: those of the embedded servers, or yours."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from redis.connection import parse_url

from edge.settings import Settings
from ops.settings import SettingsError, load
from ops.state.places import ROOT_DIR, addresses, is_embedded, places
from ops.state.settings import StateSettings


def test_the_embedded_servers_are_found_by_their_sockets() -> None:
    settings = replace(Settings(), state=StateSettings(data_dir=Path("/data of mine")))
    found = addresses(settings)
    socket = "host=/data%20of%20mine/eu1/postgres"
    assert found.database_url == f"postgresql://nexus_app@/nexus?{socket}"
    assert found.admin_url == f"postgresql://nexus_admin@/nexus?{socket}"
    assert parse_url(found.redis_url)["path"] == "/data of mine/eu1/valkey/valkey.sock"
    assert settings.kafka.servers == ()
    assert is_embedded(settings)


def test_yours_are_taken_as_they_are() -> None:
    environment = {
        "NEXUS_DATABASE_URL": "postgresql://app:secret@db/nexus",
        "NEXUS_REDIS_URL": "redis://cache:6379/1",
        "NEXUS_KAFKA": "one:9092,two:9092",
    }
    settings = load(Settings, environment=environment).settings
    found = addresses(settings)
    assert found.database_url == found.admin_url == "postgresql://app:secret@db/nexus"
    assert found.redis_url == "redis://cache:6379/1"
    assert settings.kafka.servers == ("one:9092", "two:9092")
    assert not is_embedded(settings)
    admin = replace(settings, database=replace(settings.database, admin_url="postgresql://root@db"))
    assert addresses(admin).admin_url == "postgresql://root@db"
    assert addresses(admin).database_url == found.database_url
    assert is_embedded(replace(settings, redis=replace(settings.redis, url="")))


def test_a_region_has_folders_of_its_own() -> None:
    settings = replace(Settings(), state=StateSettings(data_dir=Path("/data")))
    other = replace(settings, node=replace(settings.node, region="us1"))
    assert places(settings).postgres == Path("/data/eu1/postgres")
    assert places(other).postgres == Path("/data/us1/postgres")
    assert places(settings).programs == places(other).programs


@pytest.mark.parametrize(
    ("uid", "environment", "wanted"),
    [
        (0, {"XDG_STATE_HOME": "/x"}, ROOT_DIR),
        (1000, {"XDG_STATE_HOME": "/x", "HOME": "/h"}, Path("/x/nexus-cos")),
        (1000, {"XDG_STATE_HOME": "relative", "HOME": "/h"}, Path("/h/.local/state/nexus-cos")),
        (1000, {"HOME": "/h"}, Path("/h/.local/state/nexus-cos")),
    ],
)
def test_the_directory_is_chosen_by_who_runs_it(
    monkeypatch: pytest.MonkeyPatch, uid: int, environment: dict[str, str], wanted: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    assert places(Settings(), environment).data_dir == wanted


@pytest.mark.parametrize(
    "name_and_value",
    [
        ("NEXUS_STATE_DATA_DIR", "/data,more"),
        ("NEXUS_STATE_DATA_DIR", '/da"ta'),
        ("NEXUS_STATE_POSTGRES_OPTIONS", "work_mem"),
        ("NEXUS_STATE_POSTGRES_OPTIONS", "work mem=9MB"),
        ("NEXUS_KAFKA_SERVERS", "one:9092"),
    ],
)
def test_what_cannot_work_stops_the_start(name_and_value: tuple[str, str]) -> None:
    with pytest.raises(SettingsError):
        load(Settings, environment=dict([name_and_value]))
