"""What the doctor finds of regions: those that answer and know us, and those that do not."""

import asyncio
from dataclasses import replace

import pytest

from edge import command
from edge.doctor_regions import examine
from edge.finding import Finding
from edge.settings import Settings
from ops.node import NodeSettings
from ops.region_settings import PeerSettings, RegionSettings
from ops.supervisor import EXIT_SETTINGS
from tests.fakes.postgres import PostgresServer
from tests.fakes.regions import KEY, free_socket, url_of, world


async def found(regions: RegionSettings, *, region: str = "us1") -> dict[str, Finding]:
    settings = replace(Settings(), regions=regions, node=NodeSettings(region=region))
    findings = await asyncio.to_thread(lambda: list(examine(settings)))
    return {finding.check: finding for finding in findings}


async def test_alone_there_is_nothing_to_say() -> None:
    assert await found(RegionSettings()) == {}


async def test_a_region_that_answers(postgres_server: PostgresServer) -> None:
    async with world(postgres_server) as made:
        for region, other in (("us1", "eu1"), ("eu1", "us1")):
            finding = (await found(made[region].settings, region=region))[f"region {other}"]
            assert finding.state == "ok", finding
        peer = PeerSettings(region="eu1", url=made["eu1"].url, key=KEY + " no")
        finding = (await found(RegionSettings(peers=(peer,))))["region eu1"]
        assert finding.state == "fail"
        assert "key" in finding.advice


async def test_a_region_that_does_not() -> None:
    with free_socket() as sock:
        url = url_of(sock)
    peer = PeerSettings(region="eu1", url=url, key=KEY)
    assert (await found(RegionSettings(peers=(peer,))))["region eu1"].state == "warn"


@pytest.mark.parametrize("region", ["eu1", "us1"])
async def test_settings_that_contradict_themselves(region: str) -> None:
    peer = PeerSettings(region="eu1", url="http://127.0.0.1:1", key=KEY)
    regions = RegionSettings(peers=(peer,), directory="ap1")
    assert (await found(regions, region=region))["regions"].state == "fail"


async def test_what_travels_unencrypted_is_told() -> None:
    peer = PeerSettings(region="eu1", url="http://192.0.2.1:1", key=KEY)
    settings = replace(Settings(), regions=RegionSettings(peers=(peer,)))
    settings = replace(settings, node=NodeSettings(region="us1"))
    checks = [(one.check, one.state) for one in examine(settings)]
    assert ("region eu1 url", "warn") in checks


def test_a_node_does_not_start_with_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(["up", "--no-demo", "--regions.directory=ap1"]) == EXIT_SETTINGS
    assert "regions.directory: ap1 is not among regions.peers" in capsys.readouterr().err
