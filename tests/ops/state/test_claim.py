"""One holder at a time, named to whoever comes second; nothing is left when it dies."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from edge.settings import Settings
from ops.state.claim import Claim, family_claim
from ops.state.errors import StateError
from ops.state.settings import RedisSettings, StateSettings

HOLD = """
import sys
from pathlib import Path
from ops.state.claim import Claim
with Claim(Path(sys.argv[1]), holder="the other one"):
    print("held", flush=True)
    sys.stdin.read()
"""


def other(path: Path) -> "subprocess.Popen[str]":
    """A process that has it."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[3],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_is_told_who_has_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with other(path) as process:
        wanted = rf"{tmp_path}: another node .* \(process {process.pid}, the other one\)"
        with pytest.raises(StateError, match=wanted):
            Claim(path).__enter__()
        process.kill()
        process.wait()
        with Claim(path) as claim:
            assert claim.is_held
    assert path.stat().st_mode & 0o777 == 0o600


async def test_who_is_patient_gets_it_when_it_is_free(tmp_path: Path) -> None:
    claim = Claim(tmp_path / "lock")
    with other(tmp_path / "lock") as process:
        began = time.monotonic()
        with pytest.raises(StateError):
            await claim.take(0.1)
        assert time.monotonic() - began >= 0.1
        process.kill()
        await claim.take(10.0)
        assert claim.try_take()
        claim.release()
        claim.release()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateError):
        Claim(tmp_path / "lock").try_take()
    assert not (tmp_path / "elsewhere").exists()


def test_a_family_claims_its_region_alone(tmp_path: Path) -> None:
    settings = replace(Settings(), state=StateSettings(data_dir=tmp_path / "deep" / "data"))
    elsewhere = replace(settings, node=replace(settings.node, region="us1"))
    with family_claim(settings, holder="first"):
        with pytest.raises(StateError, match=r"first\); choose another state\.data_dir"):
            family_claim(settings, holder="second").__enter__()
        with family_claim(elsewhere, holder="second"):
            pass
    region = tmp_path / "deep" / "data" / "eu1"
    assert region.stat().st_mode & 0o777 == 0o711
    region.chmod(0o700)
    with family_claim(settings, holder="third"):
        assert region.stat().st_mode & 0o777 == 0o711, "the servers' account may pass through"


def test_servers_of_yours_need_no_claim_and_a_bad_directory_hinders_no_video(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("")
    unusable = replace(Settings(), state=StateSettings(data_dir=tmp_path / "file" / "data"))
    with family_claim(unusable, holder="a node"):
        pass
    yours = replace(
        Settings(),
        database=replace(Settings().database, url="postgresql://db/nexus"),
        redis=RedisSettings(url="redis://cache"),
        state=StateSettings(data_dir=tmp_path / "none"),
    )
    with family_claim(yours, holder="a node"):
        assert not (tmp_path / "none").exists()
