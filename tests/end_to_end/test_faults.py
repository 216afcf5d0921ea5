"""kill -9 of each process: it comes back, those who reconnect are on air within three seconds, nothing is left."""

import os
import signal
import socket
import time
from pathlib import Path

import psutil
import pytest

from tests.end_to_end.family import Family, fetch, wait_until
from tests.end_to_end.figures import say
from tests.end_to_end.publishers import ffmpeg_whip

ON_AIR_SECONDS = 3.0


def _on_air(family: Family) -> bool:
    try:
        return family.live("demo") and bool(family.streams()["demo"]["hls"])
    except OSError:
        return False


def test_media_killed(tmp_path: Path) -> None:
    with Family(tmp_path, demo=True) as family:
        wait_until("the demo is on air", lambda: _on_air(family), 20)
        dead = family.kill("media")
        wait_until("the dead process is noticed", lambda: not psutil.pid_exists(dead), 3)
        seconds = wait_until("the demo is on air again", lambda: _on_air(family), 20)
        say("media killed, demo on air again", seconds=seconds)
        assert seconds <= ON_AIR_SECONDS


def test_a_playlist_goes_on_over_the_death_of_media(tmp_path: Path) -> None:
    with Family(tmp_path, demo=True) as family:
        wait_until("the demo is on air", lambda: _on_air(family), 20)
        url = f"{family.url}/hls/demo/v/live.m3u8"

        def sequence() -> int:
            status, body = fetch(url)
            assert status == 200
            return body.decode().count("#EXTINF") + int(
                body.decode().split("#EXT-X-MEDIA-SEQUENCE:")[1].split()[0]
            )

        wait_until("some segments", lambda: sequence() >= 2, 20)
        before = sequence()
        family.kill("media")
        wait_until("the playlist has gone on", lambda: sequence() >= before + 3, 20)
        assert b"#EXT-X-DISCONTINUITY\n" in fetch(url)[1]


def test_an_edge_worker_killed(tmp_path: Path) -> None:
    with Family(tmp_path, demo=True, NEXUS_EDGE_WORKERS="2") as family:
        wait_until("the demo is on air", lambda: _on_air(family), 20)
        family.kill("edge")
        start = time.monotonic()
        answers = 0
        while time.monotonic() - start < ON_AIR_SECONDS:
            status, _ = fetch(f"{family.url}/hls/demo/v/live.m3u8", timeout=ON_AIR_SECONDS)
            answers += status == 200
        assert answers > 0
        wait_until("both workers are back", lambda: len(family.pids("edge")) == 2, 3)
        assert _on_air(family)


def test_the_supervisor_killed(tmp_path: Path) -> None:
    """All end together; no process, no port is left; a new family starts at once."""
    with Family(tmp_path, demo=True) as family:
        wait_until("the demo is on air", lambda: _on_air(family), 20)
        children = family.pids()
        assert len(children) >= 3
        assert family.process is not None
        os.kill(family.pid, signal.SIGKILL)
        family.process.wait()
        seconds = wait_until(
            "the children have ended", lambda: not any(psutil.pid_exists(p) for p in children), 3
        )
        say("supervisor killed, children gone", seconds=seconds)
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.bind(("127.0.0.1", family.port))
            udp.bind(("127.0.0.1", family.udp_port))
        start = time.monotonic()
        family.start()
        wait_until("the demo is on air again", lambda: _on_air(family), 20)
        say("a new family on air", seconds=time.monotonic() - start)


def test_a_clean_stop_leaves_nothing(tmp_path: Path) -> None:
    with Family(tmp_path, demo=True) as family:
        wait_until("the demo is on air", lambda: _on_air(family), 20)
        start = time.monotonic()
        assert family.stop() == 0
        say("clean stop", seconds=time.monotonic() - start)
        assert not family.run_dir.exists()


@pytest.mark.parametrize("times", [3])
def test_a_publisher_that_comes_and_goes(tmp_path: Path, quiet_family: Family, times: int) -> None:
    """Killed senders and new ones: viewers' playlist never goes backwards."""
    family, url = quiet_family, f"{quiet_family.url}/hls/restless/v/live.m3u8"
    last = -1
    for turn in range(times):
        with ffmpeg_whip(f"{family.url}/whip/restless", tmp_path / f"{turn}.log") as sender:
            wait_until("it is live", lambda: family.live("restless"), 15)

            def ahead() -> bool:
                status, body = fetch(url)
                return status == 200 and body.decode().count("#EXTINF") >= 2

            wait_until("segments", ahead, 20)
            text = fetch(url)[1].decode()
            first = int(text.split("#EXT-X-MEDIA-SEQUENCE:")[1].split()[0])
            now = first + text.count("#EXTINF")
            assert now > last
            last = now
            sender.kill()
