"""What a process costs, against another reader of the same."""

import os
import subprocess
import sys

import psutil
import pytest

from ops.processes import cost


def test_figures_agree_with_an_independent_reader() -> None:
    found, other = cost(os.getpid()), psutil.Process()
    assert found.cpu_seconds == pytest.approx(sum(other.cpu_times()[:2]), abs=0.2)
    assert found.resident_bytes == pytest.approx(other.memory_info().rss, rel=0.05)
    assert abs(found.threads - other.num_threads()) <= 2, "other tests' threads may just end"
    assert abs(found.files - other.num_fds()) <= 2


def test_a_process_that_is_gone() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    with pytest.raises(OSError, match="No such"):
        cost(child.pid)
