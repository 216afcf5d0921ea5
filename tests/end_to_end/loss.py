"""Random loss on chosen UDP ports of loopback, by iptables in the test's own network namespace.

Packets are dropped where they arrive, in both directions, so that no sender is told. Only UDP is
touched: signalling by HTTP goes on undisturbed.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def _iptables(*words: str) -> None:
    program = shutil.which("iptables", path=_PATH)
    assert program, "iptables is missing: scripts/test-packages installs it"
    subprocess.run([program, "-w", *words], check=True, capture_output=True, timeout=10)


@contextmanager
def lossy(share: float, ports: Sequence[int]) -> Iterator[None]:
    """Loses a share (0 to 1) of all datagrams to and from these ports until left."""
    rules = [
        ["INPUT", "-i", "lo", "-p", "udp", side, str(port), "-m", "statistic", "--mode", "random",
         "--probability", str(share), "-j", "DROP"]
        for port in ports
        for side in ("--dport", "--sport")
    ]  # fmt: skip
    added: list[list[str]] = []
    try:
        for rule in rules:
            _iptables("-A", *rule)
            added.append(rule)
        yield
    finally:
        for rule in added:
            _iptables("-D", *rule)
