"""A source tree with many services: the real ones, and others written as `nexus new` writes them.

Processes that are started in it have these services in place of ours; all else is ours.
"""

import os
import shutil
from pathlib import Path
from typing import Final

from benchmarks.results import ROOT
from edge.new_service import DOMAINS, write

WORDS: Final = ("orchard", "lantern", "harbour", "meadow", "cinder", "pebble", "willow", "saddle")


def grow(folder: Path, count: int) -> Path:
    """The tree, with so many services in all. Raises LookupError: there are no templates here, or
    more services than that already."""
    if not (ROOT / "services/_new").is_dir():
        raise LookupError("an installed copy has no templates of services: use a clone")
    skipped = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "services", folder / "services", ignore=skipped)
    real = len(list((folder / "services").glob("[a-z]*/[a-z]*/service.py")))
    names = [f"{domain}/{word}-{domain}" for word in WORDS for domain in DOMAINS]
    if not real <= count <= real + len(names):
        raise LookupError(f"{real} to {real + len(names)} services can be had, not {count}")
    for name in names[: count - real]:
        write(folder, name)
    return folder


def environment(tree: Path) -> dict[str, str]:
    """What a process needs that has the tree's services. Start it with `-P`."""
    return {**os.environ, "PYTHONPATH": f"{tree}{os.pathsep}{ROOT}"}
