"""The run directory: private, locked, swept, adopted when fresh."""

import os
import time
from pathlib import Path

import pytest

from ops import run_dir
from ops.node import AUTOMATIC
from ops.run_dir import RunDir, RunDirError


def test_it_is_made_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run"
    with RunDir(path) as directory:
        assert path.stat().st_mode & 0o777 == 0o700
        directory.write_json("supervisor.json", {"pid": 1})
        assert (path / "supervisor.json").stat().st_mode & 0o777 == 0o600
        assert not directory.adopted
    assert not path.exists()


def test_it_is_locked(tmp_path: Path) -> None:
    with RunDir(tmp_path / "run") as directory:
        directory.write_json("supervisor.json", {"pid": 4711})
        with pytest.raises(RunDirError, match=r"another node runs there \(process 4711\)"):
            RunDir(tmp_path / "run").__enter__()
    with RunDir(tmp_path / "run"):
        pass


def leftovers(path: Path, age_seconds: float) -> None:
    stream = path / "hls" / "show"
    stream.mkdir(parents=True)
    (path / "metrics").mkdir()
    (path / "tls").mkdir()
    (path / "supervisor.json").write_text("{}")
    (stream / "v.journal").write_text("x")
    when = time.time() - age_seconds
    for entry in (stream / "v.journal", stream, path / "hls"):
        os.utime(entry, (when, when))


@pytest.mark.parametrize(("age_seconds", "kept"), [(5, True), (500, False)])
def test_fresh_playlists_of_a_dead_node_go_on(
    tmp_path: Path, age_seconds: float, kept: bool
) -> None:
    path = tmp_path / "run"
    leftovers(path, age_seconds)
    with RunDir(path, adopt_seconds=60) as directory:
        assert directory.had_leftovers
        assert directory.adopted == kept
        assert (path / "hls" / "show" / "v.journal").exists() == kept
        assert not (path / "supervisor.json").exists()
        assert (path / "tls").exists()


def test_a_strangers_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(RunDirError, match="holds files that no node made"):
        RunDir(tmp_path).__enter__()
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "real")
    with pytest.raises(RunDirError, match="not a directory of its own"):
        RunDir(tmp_path / "run").__enter__()


def test_what_killed_nodes_left_is_swept_once_it_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_dir, "MEMORY", tmp_path)
    mine = f"nexus-{os.getuid()}-"
    leftovers(tmp_path / f"{mine}1", age_seconds=500)
    leftovers(tmp_path / f"{mine}2", age_seconds=5)
    leftovers(tmp_path / "nexus-other-3", age_seconds=500)
    (tmp_path / f"{mine}4" / "hls").mkdir(parents=True)
    with RunDir(tmp_path / f"{mine}5") as living:
        living.write_json("supervisor.json", {})
        os.utime(living.path / "hls", (0, 0))
        assert run_dir.sweep_dead(60) == [tmp_path / f"{mine}1"]
        assert living.path.exists()
    assert {path.name for path in tmp_path.iterdir()} == {f"{mine}2", "nexus-other-3", f"{mine}4"}


def test_where_it_is_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_dir.choose(tmp_path, 8080) == tmp_path
    monkeypatch.setattr(run_dir, "MEMORY", tmp_path)
    assert run_dir.choose(AUTOMATIC, 8080) == tmp_path / f"nexus-{os.getuid()}-8080"
    assert str(os.getpid()) in run_dir.choose(AUTOMATIC, 0).name
    monkeypatch.setattr(run_dir, "MEMORY", tmp_path / "missing")
    assert run_dir.choose(AUTOMATIC, 8080).parent != tmp_path
