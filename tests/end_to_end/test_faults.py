"""kill -9 of each process: it comes back, who reconnects is on air in 3 s, nothing is left."""

import os
import signal
import socket
import time
import urllib.request
from pathlib import Path

import psutil

from media._native import Swarm
from tests.end_to_end.family import Family, fetch, wait_until
from tests.end_to_end.figures import say
from tests.end_to_end.publishers import ffmpeg_whip

ON_AIR_SECONDS = 3.0


def _on_air(family: Family) -> bool:
    try:
        return family.live("demo") and bool(family.streams()["demo"]["hls"])
    except OSError:
        return False


def _plays(family: Family, swarm: Swarm) -> bool:
    """Whether a player that joins now gets packets within half a second."""
    client, offer = swarm.offer_viewer()
    try:
        request = urllib.request.Request(
            f"{family.url}/whep/demo",
            data=offer.encode(),
            headers={"Content-Type": "application/sdp"},
        )
        try:
            with urllib.request.urlopen(request, timeout=2) as answer:
                swarm.answer(client, answer.read().decode())
        except OSError:
            return False
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            if any(s["client"] == client and s["packets"] > 20 for s in swarm.stats()):
                return True
            time.sleep(0.01)
        return False
    finally:
        swarm.close(client)


def _newest_part(family: Family) -> bytes:
    """The last part that the playlist lists; empty while there is none."""
    try:
        status, body = fetch(f"{family.url}/hls/demo/v/live.m3u8")
    except OSError:
        return b""
    parts = [line for line in body.splitlines() if line.startswith(b"#EXT-X-PART:")]
    return parts[-1] if status == 200 and parts else b""


def test_media_killed(tmp_path: Path, slack: float) -> None:
    """The demo publishes again and both kinds of player have new pictures, all within 3 s."""
    swarm = Swarm()
    try:
        with Family(tmp_path, demo=True) as family:
            wait_until("the demo is on air", lambda: _on_air(family), 20)
            wait_until("it plays", lambda: _plays(family, swarm), 10)
            wait_until("the playlist has begun", lambda: bool(_newest_part(family)), 10)
            start = time.monotonic()
            dead = family.kill("media")
            last = _newest_part(family)
            wait_until(
                "the successor is there", lambda: family.pids("media") not in ([], [dead]), 5
            )
            wait_until("a player that joins gets packets", lambda: _plays(family, swarm), 20)
            joined = time.monotonic() - start
            wait_until("a new part is listed", lambda: _newest_part(family) not in (b"", last), 20)
            listed = time.monotonic() - start
            say("media killed, on air again", webrtc_seconds=joined, hls_seconds=listed)
            assert joined <= ON_AIR_SECONDS * slack
            assert listed <= ON_AIR_SECONDS * slack
    finally:
        swarm.stop()


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


def test_an_edge_worker_killed(tmp_path: Path, slack: float) -> None:
    with Family(tmp_path, demo=True, NEXUS_EDGE_WORKERS="2") as family:
        wait_until("the demo is on air", lambda: _on_air(family), 20)
        family.kill("edge")
        start = time.monotonic()
        answers = 0
        while time.monotonic() - start < ON_AIR_SECONDS:
            limit = ON_AIR_SECONDS * slack
            status, _ = fetch(f"{family.url}/hls/demo/v/live.m3u8", timeout=limit)
            answers += status == 200
        assert answers > 0
        wait_until("both workers are back", lambda: len(family.pids("edge")) == 2, 3 * slack)
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
            "the children have ended", lambda: not any(psutil.pid_exists(p) for p in children), 5
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


def _newest_segment(url: str) -> int:
    """The last whole segment that the playlist lists, -1 when there is none."""
    status, body = fetch(url)
    text = body.decode()
    if status != 200 or "#EXTINF" not in text:
        return -1
    return int(text.split("#EXT-X-MEDIA-SEQUENCE:")[1].split()[0]) + text.count("#EXTINF")


def test_a_publisher_that_comes_and_goes(tmp_path: Path, quiet_family: Family) -> None:
    """Killed senders and new ones: the viewers' playlist goes on and never backwards."""
    family, url = quiet_family, f"{quiet_family.url}/hls/restless/v/live.m3u8"
    seen = [-1]

    def gone_on() -> bool:
        now = _newest_segment(url)
        assert now >= seen[-1], "the playlist went backwards"
        return now > seen[-1] + 1

    for turn in range(3):
        with ffmpeg_whip(f"{family.url}/whip/restless", tmp_path / f"{turn}.log") as sender:
            wait_until("it is live", lambda: family.live("restless"), 15)
            wait_until("two new segments are listed", gone_on, 20)
            seen.append(_newest_segment(url))
            sender.kill()
