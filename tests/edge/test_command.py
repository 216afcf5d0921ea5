"""The command `nexus`: exit codes, messages, the settings pages."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from edge import command
from edge.settings import Settings
from ops import settings_pages
from ops.settings import SettingsError, entries

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str


class Nexus(Protocol):
    def __call__(self, *arguments: str, **environment: str) -> Done: ...


@pytest.fixture
def nexus(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Nexus:
    """Runs a command that does not serve, in this process, with no settings but those given."""

    def run(*arguments: str, **environment: str) -> Done:
        for name in os.environ:
            if name.startswith("NEXUS_"):
                monkeypatch.delenv(name)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        code = command.run(arguments)
        written = capsys.readouterr()
        return Done(code, written.out, written.err)

    return run


def test_the_reference_page_equals_the_code() -> None:
    """Make it anew with: nexus settings --markdown > docs/settings.md"""
    assert (ROOT / "docs/settings.md").read_text() == settings_pages.markdown(Settings)


def test_every_setting_has_a_unit_where_it_needs_one() -> None:
    """A number is a count, or its name ends with its unit."""
    units = ("_seconds", "_ms", "_us", "_bytes", "_max", "_ratio", "_rate", "_pixels")
    counts = re.compile(
        r"workers|port|backlog|width|height|kafka_partitions|kafka_copies|list_items_assumed"
    )
    wrong = [
        entry.name
        for entry in entries(Settings)
        if entry.type in (int, float)
        and not entry.field.endswith(units)
        and not counts.fullmatch(entry.field)
    ]
    assert wrong == []


def test_unknown_settings_stop_the_start(nexus: Nexus) -> None:
    done = nexus("up", "--edge.lisen=127.0.0.1:0", NEXUS_EDGE_WORKER="1")
    assert done.code == 2
    assert "did you mean --edge.listen?" in done.err
    assert "did you mean NEXUS_EDGE_WORKERS?" in done.err
    assert "Traceback" not in done.err


def test_it_refuses_to_serve_strangers_without_keys(nexus: Nexus) -> None:
    done = nexus("up", "--edge.listen=0.0.0.0:0")
    assert done.code == 2
    assert "auth" in done.err


def test_effective_values_and_their_origin(nexus: Nexus) -> None:
    done = nexus("settings", "--hls.part_ms=300", NEXUS_DEMO_KEY="open-sesame")
    assert done.code == 0
    lines = {line.split()[0]: line.split()[1:] for line in done.out.splitlines()}
    assert lines["hls.part_ms"] == ["300", "--hls.part_ms"]
    assert lines["demo.key"] == ["***", "NEXUS_DEMO_KEY"]
    assert "sesame" not in done.out


def test_the_sample_is_a_settings_file(nexus: Nexus, tmp_path: Path) -> None:
    sample = tmp_path / "nexus.toml"
    sample.write_text(nexus("settings", "--sample").out)
    assert nexus("settings", "--config", str(sample)).code == 0
    sample.write_text("[edge]\nworkers = 'two'\n")
    done = nexus("settings", NEXUS_CONFIG=str(sample))
    assert done.code == 2
    assert f"{sample}:2: edge.workers: 'two' is not a whole number" in done.err


def test_version_and_unknown_commands(nexus: Nexus) -> None:
    assert nexus("version").out.startswith("nexus ")
    with pytest.raises(SystemExit) as ended:
        nexus("fly")
    assert ended.value.code == 2


def test_it_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edge.main", "version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith("nexus ")
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("http://host:8080", "http://host:8080/whip/show"),
        ("https://host/", "https://host/whip/show"),
        ("http://host/whip/other", "http://host/whip/other"),
    ],
)
def test_the_demo_finds_its_address(given: str, address: str) -> None:
    assert command.whip_address(given, stream="show") == address


@pytest.mark.parametrize("given", ["host:8080", "ftp://host", "http://"])
def test_a_wrong_demo_address(given: str) -> None:
    with pytest.raises(SettingsError, match="--url"):
        command.whip_address(given, stream="show")


def test_the_doctor_speaks_json(nexus: Nexus) -> None:
    done = nexus("doctor", "--json", "--edge.listen=127.0.0.1:0", "--webrtc.port=0")
    report = json.loads(done.out)
    assert report["ok"] == (done.code == 0)
    assert {"python", "codecs", "open files", "run directory"} <= {
        item["check"] for item in report["findings"]
    }
