"""The clone's own text files as the tidy tests read them, and how those tests report.

Only what is, or could be, committed: generated and ignored folders are left out. Each file is
read and parsed once a run.
"""

import ast
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ("edge", "media", "ops", "realtime", "services")
FILE_BYTES_MAX = 2_000_000

_IGNORED = re.compile(
    r"(^|/)(\.git|\.venv|\.build|\.run|node_modules|target|dist|build|__pycache__|\.hypothesis"
    r"|\.[a-z_]+_cache|test-results|[^/]+\.egg-info)(/|$)|^edge/static(/|$)|\.so$|\.pyc$"
)


class Fault(NamedTuple):
    """A rule broken at a line of a file."""

    line: int
    message: str


@dataclass(frozen=True)
class Source:
    """One text file: `path` relative to the clone, with slashes."""

    path: str
    text: str

    @property
    def folder(self) -> str:
        """The top folder, or empty for a file of the clone's root."""
        return self.path.partition("/")[0] if "/" in self.path else ""

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def in_library(self) -> bool:
        return self.folder in LIBRARY

    @cached_property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)


@lru_cache
def sources() -> tuple[Source, ...]:
    """Every text file of the clone."""
    found = []
    for folder, folders, names in os.walk(ROOT):
        here = Path(folder).relative_to(ROOT)
        folders[:] = [name for name in folders if not _IGNORED.search((here / name).as_posix())]
        for name in names:
            path = (here / name).as_posix()
            if not _IGNORED.search(path):
                found.append(path)
    read = (_read(path) for path in sorted(found))
    return tuple(source for source in read if source)


def python_sources() -> tuple[Source, ...]:
    """Every Python file, typed stubs included."""
    return tuple(source for source in sources() if source.path.endswith((".py", ".pyi")))


def fail_with(faults: Iterable[tuple[str, Fault]]) -> None:
    """Fails the test, naming each fault as `path:line: message`."""
    text = [f"{path}:{fault.line}: {fault.message}" for path, fault in faults]
    if text:
        pytest.fail("\n" + "\n".join(text), pytrace=False)


def _read(path: str) -> Source | None:
    file = ROOT / path
    if file.is_symlink() or not file.is_file() or file.stat().st_size > FILE_BYTES_MAX:
        return None
    try:
        return Source(path, file.read_text("utf-8"))
    except UnicodeDecodeError:
        return None
