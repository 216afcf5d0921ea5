"""The container image: its default command, started by buildah, serves; as nobody; with a key.

`make prove` builds the image before, outside the tests' network (`scripts/image`).
"""

import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0
STOP_SECONDS = 15.0
URL = "http://127.0.0.1:8080"
USER = 10_001

pytestmark = pytest.mark.prove


def status(path: str, key: str = "") -> int:
    """HTTP status of a GET, or 0 when nobody answers."""
    request = urllib.request.Request(URL + path)
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=3) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code
    except OSError:
        return 0


def until(what: str, true: object, seconds: float) -> None:
    """Polls until `true()` is."""
    assert callable(true)
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.1)


def of_the_image() -> list[psutil.Process]:
    """Processes that run as the image's user."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.uids().real == USER and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The default command in a container; the file that it prints to."""
    path = tmp_path_factory.mktemp("image") / "log"
    with path.open("wb") as out:
        running = subprocess.Popen(
            [ROOT / "scripts/image", "run"], stdout=out, stderr=out, start_new_session=True
        )
    try:
        until(f"ready; see {path}", lambda: status("/readyz") == 200, START_SECONDS)
        yield path
        [media] = [process for process in of_the_image() if "media" in process.cmdline()]
        media.parent().send_signal(signal.SIGTERM)
        assert running.wait(STOP_SECONDS) == 0
        until("no process is left", lambda: not of_the_image(), 5.0)
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()


def test_it_serves(log: Path) -> None:
    assert status("/livez") == 200, log.read_text()
    assert status("/") == 200


def test_it_asks_for_the_key_it_printed(log: Path) -> None:
    key = re.search(r"the key is (\S+)", log.read_text())
    assert key is not None
    assert status("/api/v1/streams") == 401
    assert status("/api/v1/streams", key.group(1)) == 200


def test_it_runs_as_nobody(log: Path) -> None:
    commands = [" ".join(process.cmdline()) for process in of_the_image()]
    assert any("serve media" in command for command in commands), log.read_text()
    assert any("serve edge" in command for command in commands)
    until("PostgreSQL runs", lambda: any("postgres" in p.name() for p in of_the_image()), 20.0)
