"""A process that lives and does nothing: found, killed, started again; the others go on."""

import os
import re
import signal
from pathlib import Path

import psutil
import pytest

from tests.end_to_end.family import Family, fetch, wait_until


def hangs(family: Family, child: str) -> float:
    status, body = fetch(f"{family.url}/metrics")
    assert status == 200
    name = rf'^nexus_child_hangs_total{{child="{child}"}} ([\d.]+)$'
    found = re.search(name, body.decode(), flags=re.MULTILINE)
    return float(found[1]) if found else 0.0


@pytest.mark.parametrize("role", ["edge", "media"])
def test_a_stopped_process_is_replaced(tmp_path: Path, role: str) -> None:
    settings = {"NEXUS_EDGE_WORKERS": "1", "NEXUS_NODE_HANG_SECONDS": "3"}
    with Family(tmp_path, **settings) as family:
        (stopped,) = family.pids(role)
        (other,) = family.pids("media" if role == "edge" else "edge")
        os.kill(stopped, signal.SIGSTOP)
        wait_until("it is gone", lambda: not psutil.pid_exists(stopped), 20)
        wait_until("another is there", lambda: len(family.pids(role)) == 1, 20)
        wait_until("and ready", family.ready, 30)
        assert family.pids("media" if role == "edge" else "edge") == [other]
        assert hangs(family, f"{role}-0") == 1
