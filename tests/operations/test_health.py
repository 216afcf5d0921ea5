"""/livez and /readyz of a real node whose media process hangs, dies and comes back."""

import os
import signal
import time
from pathlib import Path

import psutil

from tests.end_to_end.family import Family, fetch, wait_until
from tests.end_to_end.figures import say

UNREADY_SECONDS = 4.0
"""A ping waits a second, an outcome is kept for half a second; the rest is the machine's."""


def status(family: Family, path: str) -> int:
    return fetch(f"{family.url}{path}")[0]


def test_a_hung_media_process_makes_the_node_unready_until_it_is_replaced(
    tmp_path: Path, slack: float
) -> None:
    with Family(tmp_path, NEXUS_EDGE_WORKERS="1", NEXUS_NODE_HANG_SECONDS="6") as family:
        dead = family.pids("media")[0]
        os.kill(dead, signal.SIGSTOP)
        seconds = wait_until("it is unready", lambda: status(family, "/readyz") == 503, 10)
        code, text = fetch(f"{family.url}/readyz?verbose")
        assert code == 503
        assert text.decode().splitlines()[0].startswith("[-]media failed: ")
        assert b"[+]sockets ok\n[+]run_dir ok\n" in text
        assert status(family, "/livez") == 200, "it is no reason to start the node anew"
        back = wait_until("it is ready again", lambda: status(family, "/readyz") == 200, 30)
        assert family.pids("media") not in ([], [dead])
        say("hung media", unready_seconds=seconds, ready_again_seconds=back)
        assert seconds <= UNREADY_SECONDS * slack


def test_a_dead_media_process_is_missed_for_a_moment(tmp_path: Path) -> None:
    """It is back so soon that readiness may never be lost; but then it is another one."""
    with Family(tmp_path, NEXUS_EDGE_WORKERS="1") as family:
        dead = family.kill("media")
        wait_until("there is a new one", lambda: family.pids("media") not in ([], [dead]), 10)
        wait_until("it answers", lambda: status(family, "/api/v1/sessions") == 200, 10)
        wait_until("the node is ready", lambda: status(family, "/readyz") == 200, 10)
        text = fetch(f"{family.url}/readyz?verbose")[1]
        assert text == b"[+]media ok\n[+]sockets ok\n[+]run_dir ok\nreadyz check passed\n"


def test_a_hung_supervisor_makes_the_node_dead(tmp_path: Path) -> None:
    """Nobody would replace a child then: whoever runs the node should start it anew."""
    with Family(tmp_path, NEXUS_EDGE_WORKERS="1") as family:
        text = fetch(f"{family.url}/livez?verbose")[1]
        assert text == b"[+]worker ok\n[+]supervisor ok\nlivez check passed\n"
        supervisor = psutil.Process(family.pid)
        start = time.monotonic()
        supervisor.suspend()
        try:
            wait_until("it is not live", lambda: status(family, "/livez") == 503, 30, every=0.5)
            text = fetch(f"{family.url}/livez?verbose")[1]
            assert b"[-]supervisor failed: the supervisor was last heard of" in text
            say("hung supervisor", not_live_seconds=time.monotonic() - start)
        finally:
            supervisor.resume()
        wait_until("it is live", lambda: status(family, "/livez") == 200, 10)
