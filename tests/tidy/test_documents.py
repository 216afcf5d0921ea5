"""The documents agree with the tree: dependencies, change log, paths that they name."""

import json
import re
import tomllib

import pytest

from tests.tidy.tree import ROOT, Fault, fail_with, sources

HEADINGS = {"Safety", "Performance", "Features", "Fixes"}
PATH = re.compile(
    r"`((?:edge|media|ops|realtime|services|web|tests|docs|benchmarks|scripts)/[\w./-]*)`"
)
GENERATED = ("edge/static", "web/node_modules")
PAPERS = ("ARCHITECTURE.md", "README.md", "docs/dependencies.md", "docs/licences.md")


def requirement_names(requirements: list[str]) -> set[str]:
    """Names without versions, extras and markers."""
    return {re.split(r"[^A-Za-z0-9._-]", text)[0] for text in requirements}


def declared() -> dict[str, set[str]]:
    """Direct dependencies by the heading they stand under in docs/dependencies.md."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    crate = tomllib.loads((ROOT / "media/native/Cargo.toml").read_text())
    pages = json.loads((ROOT / "web/package.json").read_text())
    clients = json.loads((ROOT / "tests/end_to_end/node/package.json").read_text())
    return {
        "Python, at run time": requirement_names(project["dependencies"]),
        "Python, for building and testing": requirement_names(
            [text for extra in project["optional-dependencies"].values() for text in extra]
        ),
        "Rust": {
            name
            for table in ("dependencies", "dev-dependencies", "build-dependencies")
            for name in crate.get(table, {})
        },
        "Pages": {*pages.get("dependencies", {}), *pages.get("devDependencies", {})},
        "Node, for the end-to-end tests": set(clients["dependencies"]),
    }


def sections(text: str) -> dict[str, str]:
    """The text under each second-level heading."""
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("heading", sorted(declared()))
def test_dependencies_are_documented(heading: str) -> None:
    rows = sections((ROOT / "docs/dependencies.md").read_text())[heading]
    documented = re.findall(r"^\| `([^`]+)` \|", rows, flags=re.MULTILINE)
    assert sorted(documented) == sorted(declared()[heading])
    columns = [row.count("|") for row in rows.splitlines() if row.startswith("| `")]
    assert set(columns) == {6}


def test_change_log_has_known_headings() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    released = sections(text)
    assert "Unreleased" in released
    headings = re.findall(r"^### (.+)$", text, flags=re.MULTILINE)
    assert set(headings) <= HEADINGS
    assert re.search(r"^- .+", released["Unreleased"], flags=re.MULTILINE)


@pytest.mark.parametrize("paper", PAPERS)
def test_paths_named_exist(paper: str) -> None:
    faults = []
    for number, line in enumerate((ROOT / paper).read_text().splitlines(), 1):
        for path in PATH.findall(line):
            if path.startswith(GENERATED) or "{" in path:
                continue
            if not (ROOT / path.rstrip("/")).exists() and not (ROOT / f"{path}.py").exists():
                faults.append((paper, Fault(number, f"there is no {path}")))
    fail_with(faults)


@pytest.mark.parametrize("paper", PAPERS)
def test_links_lead_somewhere(paper: str) -> None:
    text = (ROOT / paper).read_text()
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text)
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not ((ROOT / paper).parent / link).exists()] == []


def test_make_targets_named_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    read = [s for s in sources() if s.path.endswith((".md", ".py", ".ts", ".html"))]
    fail_with(
        (source.path, Fault(number, f"there is no make {target}"))
        for source in read
        for number, line in enumerate(source.lines, 1)
        for target in re.findall(r"`make ([a-z]+)`", line)
        if target not in targets
    )
