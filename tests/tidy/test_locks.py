"""The lock files pin everything by hash and name no registry."""

import json
import re
import tomllib

import pytest

from tests.tidy.test_documents import declared
from tests.tidy.tree import ROOT

REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[a-z,]+\])?==(\S+)", re.MULTILINE)
NODE_LOCKS = ("web/package-lock.json", "tests/end_to_end/node/package-lock.json")


def pinned(name: str) -> dict[str, str]:
    """Package to version; asserts that each has a hash."""
    text = (ROOT / name).read_text()
    entries = re.split(r"\n(?=[A-Za-z0-9])", "\n" + text)
    found = {}
    for entry in entries:
        match = REQUIREMENT.match(entry.strip())
        if match:
            assert "--hash=sha256:" in entry, f"{name}: {match.group(1)} has no hash"
            found[match.group(1).lower().replace("_", "-")] = match.group(2)
    return found


def test_python_locks_hold_every_direct_dependency() -> None:
    run, develop = pinned("requirements.lock"), pinned("requirements-dev.lock")
    names = declared()
    assert names["Python, at run time"] <= run.keys()
    assert names["Python, for building and testing"] <= develop.keys()


def test_what_is_tested_is_what_runs() -> None:
    run, develop = pinned("requirements.lock"), pinned("requirements-dev.lock")
    assert {name: develop.get(name) for name in run} == run


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock", *NODE_LOCKS])
def test_locks_name_no_host(name: str) -> None:
    text = (ROOT / name).read_text()
    assert not re.search(r"--(extra-)?index-url|--find-links|\"resolved\"", text)


@pytest.mark.parametrize("name", NODE_LOCKS)
def test_node_locks_have_hashes(name: str) -> None:
    packages = json.loads((ROOT / name).read_text())["packages"]
    bare = [path for path, package in packages.items() if path and "integrity" not in package]
    assert not bare


def test_cargo_lock_has_checksums() -> None:
    crates = tomllib.loads((ROOT / "media/native/Cargo.lock").read_text())["package"]
    foreign = [crate for crate in crates if crate["name"] != "nexus-native"]
    assert [crate["name"] for crate in foreign if "checksum" not in crate] == []
