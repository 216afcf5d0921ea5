"""The walk of `docs/add-a-service.md`: a new service passes every check as it was written."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge.new_service import NewServiceError, write
from tests.tidy.tree import ROOT

COPIED = ("edge", "media", "ops", "realtime", "services", "benchmarks", "tests", "docs")
PYTHON = sys.executable


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source tree."""
    copy = tmp_path_factory.mktemp("tree")
    skipped = shutil.ignore_patterns("node_modules", "__pycache__", "target", "native", "static")
    for name in COPIED:
        shutil.copytree(ROOT / name, copy / name, ignore=skipped, symlinks=True)
    shutil.copytree(ROOT / "edge/static", copy / "edge/static")
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def run(tree: Path, *command: str) -> str:
    done = subprocess.run(
        command, cwd=tree, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "wanted", ["commerce/loyalty", pytest.param("business/gift-cards", marks=pytest.mark.prove)]
)
def test_a_new_service_passes_every_check(tree: Path, wanted: str) -> None:
    name = wanted.partition("/")[2]
    schema = name.replace("-", "_")
    written = run(tree, PYTHON, "-m", "edge.main", "new", wanted)
    assert all((tree / line).is_file() for line in written.splitlines())
    assert len(written.splitlines()) == 8
    folder = f"services/{wanted.partition('/')[0]}/{schema}"
    tools = Path(PYTHON).parent
    for check in (("check",), ("format", "--check")):
        run(tree, str(tools / "ruff"), *check, "-q", folder, f"tests/services/{schema}")
    run(tree, str(tools / "mypy"), "--strict", folder)
    run(tree, PYTHON, "-m", "pytest", "-q", f"tests/services/{schema}")
    run(
        tree,
        PYTHON,
        "-m",
        "pytest",
        "-q",
        "tests/services/test_every_service.py",
        "-k",
        f"{name} or circles or place or openapi or (schemathesis and not length)",
    )
    with pytest.raises(NewServiceError, match="there already"):
        write(tree, wanted)


@pytest.mark.parametrize(
    "wanted", ["loyalty", "commerce/", "commerce/Loyalty", "games/chess", "commerce/a/b", "ai/kit"]
)
def test_a_wrong_name_is_refused(tree: Path, wanted: str) -> None:
    with pytest.raises(NewServiceError):
        write(tree, wanted)
