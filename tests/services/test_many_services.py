"""44 services, most of them generated: they load side by side and every one answers.

How long that takes is a line of `nexus bench services`.
"""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from benchmarks.services_load import loaded
from benchmarks.services_tree import environment, grow
from tests.fakes.postgres import Postgres

COUNT = 44


def test_forty_four_services_load_and_answer(postgres: Postgres, tmp_path: Path) -> None:
    tree = grow(tmp_path, COUNT)
    told = asyncio.run(loaded(tree))
    assert told["services"] == COUNT
    assert told["operations"] > 5 * (COUNT - 3)
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-m", "tests.fakes.answering"),
            *(postgres.name, postgres.admin_url, postgres.url),
        ],
        env=environment(tree),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    said: dict[str, list[int]] = json.loads(done.stdout)
    assert len(said) == COUNT
    assert not [name for name, found in said.items() if not found or set(found) - {200, 201}]
