"""The dashboard's and the alerts' queries on a real Prometheus that scrapes a real node.

One node with state, a publisher, WebRTC viewers and an HLS player is up for all of them.
"""

import json
import math
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ops.dashboards.alerts import ALERTS
from ops.dashboards.panels import ROWS
from tests.end_to_end.family import Family, fetch, wait_until
from tests.fakes.state_node import data_directory
from tests.fakes.swarm_clients import SwarmClients
from tests.operations.prometheus import Prometheus

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "ops/dashboards/alerts.yml"
KEY = "a-key-that-may-do-all"
KEYS = json.dumps([{"name": "all", "secret": KEY, "actions": ["publish", "read", "control"]}])
VIEWERS = 3
DATA_SECONDS = 60.0
"""How long a query may take to give data: two scrapes, and what it is about must happen."""
QUERIES = {
    f"{row.title}: {panel.title} {place}": query.expression
    for row in ROWS
    for panel in row.panels
    for place, query in enumerate(panel.queries)
}


class HlsPlayer(threading.Thread):
    """Asks for each part of the video's playlist as soon as it may, as a player does."""

    def __init__(self, url: str, key: str) -> None:
        super().__init__(daemon=True)
        self._url, self._key = url, key
        self._over = threading.Event()
        self.playlists = 0

    def run(self) -> None:
        while not self._over.wait(0.02):
            status, body = fetch(f"{self._url}{self._next()}", key=self._key, timeout=10)
            self.playlists += status == 200
            self._text = body.decode() if status == 200 else ""

    def stop(self) -> None:
        self._over.set()
        self.join(15)

    _text = ""

    def _next(self) -> str:
        """The part after the last one that was listed."""
        msn = 0
        part = 0
        for line in self._text.splitlines():
            if line.startswith("#EXT-X-MEDIA-SEQUENCE:"):
                msn = int(line.partition(":")[2])
            elif line.startswith("#EXT-X-PART:"):
                part += 1
            elif line.startswith("#EXTINF:"):
                msn, part = msn + 1, 0
        return f"?_HLS_msn={msn}&_HLS_part={part}" if self._text else ""


@dataclass(frozen=True)
class Scene:
    """What all tests here look at."""

    family: Family
    prometheus: Prometheus
    clients: SwarmClients
    player: HlsPlayer


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    directory = tmp_path_factory.mktemp("scene")
    with (
        data_directory() as data,
        Family(
            directory,
            NEXUS_AUTH_KEYS=KEYS,
            NEXUS_HLS_LINGER_SECONDS="5",
            NEXUS_NODE_ROLES="edge,media,state,worker",
            NEXUS_STATE_DATA_DIR=str(data),
        ) as family,
        SwarmClients(family.url, key=KEY) as clients,
        Prometheus(
            directory, target=family.url.removeprefix("http://"), rules=RULES, key=KEY
        ) as prometheus,
    ):
        begun = 'nexus_join_seconds_count{protocol="whep",until="media"}'
        wait_until("it scrapes", lambda: prometheus.values(begun) == [0.0], 30)
        clients.publish("show")
        wait_until("there is a key frame", lambda: _keyframe(family), 20)
        viewers = [clients.play("show") for _ in range(VIEWERS)]
        wait_until("all play", lambda: all(clients.pictures(v) > 5 for v in viewers), 20)
        player = HlsPlayer(f"{family.url}/hls/show/v/live.m3u8", KEY)
        player.start()
        try:
            yield Scene(family, prometheus, clients, player)
        finally:
            player.stop()


def _keyframe(family: Family) -> bool:
    status, body = fetch(f"{family.url}/api/v1/streams/show", key=KEY)
    return status == 200 and json.loads(body)["keyframe_age_ms"] >= 0


def settled(scene: Scene, query: str) -> list[float]:
    """What the query gives once it gives a number."""
    found: list[float] = []

    def numbers() -> bool:
        found[:] = [v for v in scene.prometheus.values(query) if not math.isnan(v)]
        return bool(found)

    wait_until(f"data for {query}", numbers, DATA_SECONDS, every=0.3)
    return found


def filled_in(query: str) -> str:
    """As Grafana does."""
    names = {"$__rate_interval": "10s", "$instance": ".*", "$stream": ".*"}
    for name, value in names.items():
        query = query.replace(name, value)
    assert "$" not in query
    return query


@pytest.mark.parametrize("name", QUERIES)
def test_every_panel_has_data(scene: Scene, name: str) -> None:
    assert all(math.isfinite(value) for value in settled(scene, filled_in(QUERIES[name])))


def test_the_figures_are_true(scene: Scene) -> None:
    """Of what is known here: the clip, how many play, how."""
    show = 'stream="show"'
    viewers = f'nexus_stream_viewers{{{show},protocol="webrtc"}}'
    assert settled(scene, viewers) == [VIEWERS]
    hls = f'nexus_stream_viewers{{{show},protocol="hls"}}'
    wait_until("one plays HLS", lambda: scene.prometheus.values(hls) == [1.0], 30, every=0.3)

    def rate(name: str) -> float:
        return settled(scene, f"sum(rate({name}{{{show}}}[10s]))")[0]

    wait_until("ten seconds have passed", lambda: scene.player.playlists > 60, 30)
    frames = "nexus_stream_received_frames_total"
    wait_until("thirty pictures a second", lambda: 28 <= rate(frames) <= 32, 30, every=0.5)
    came = rate("nexus_stream_received_bytes_total")
    assert rate("nexus_stream_sent_bytes_total") == pytest.approx(VIEWERS * came, rel=0.25)
    assert settled(scene, f"nexus_stream_keyframe_age_seconds{{{show}}}")[0] < 3
    assert settled(scene, f"nexus_stream_hls_age_seconds{{{show}}}")[0] < 2
    joins = 'nexus_join_seconds_count{protocol="%s",until="%s"}'
    for until in ("connected", "media"):
        assert settled(scene, joins % ("whep", until)) == [VIEWERS]
        assert settled(scene, joins % ("whip", until)) == [1]
    late = 'nexus_hls_part_late_seconds_bucket{rendition="v",le="2.0"}'
    total = 'nexus_hls_part_late_seconds_count{rendition="v"}'
    assert settled(scene, late)[0] >= 0.9 * settled(scene, total)[0] > 0


def test_every_alert_is_evaluated_and_none_fires(scene: Scene) -> None:
    def evaluated() -> bool:
        rules = scene.prometheus.rules()
        return len(rules) == len(ALERTS) and all(rule["health"] == "ok" for rule in rules)

    wait_until("every rule has been evaluated", evaluated, 30)
    for rule in scene.prometheus.rules():
        if rule["name"] not in ("NexusPartsLate", "NexusLoopLate"):  # this machine may be busy
            assert rule["state"] == "inactive", rule


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_what_an_alert_looks_at_is_there(scene: Scene, alert: object) -> None:
    """Without its comparison: an alert on a metric that is never told would never fire."""
    assert hasattr(alert, "expression")
    looked_at, _, _ = alert.expression.replace("==", ">").rpartition(">")
    settled(scene, looked_at)


def test_the_rules_are_sound_and_fire() -> None:
    for words in (["check", "rules", str(RULES)], ["test", "rules", "alerts_test.yml"]):
        done = subprocess.run(
            ["promtool", *words],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_fires_in_the_rules_test() -> None:
    text = (Path(__file__).parent / "alerts_test.yml").read_text()
    assert [
        alert.name for alert in ALERTS if f"exp_labels: {{alertname: {alert.name}," in text
    ] == [alert.name for alert in ALERTS]


def test_a_stream_that_goes_is_forgotten(scene: Scene) -> None:
    """Nothing is told of it any more, so that names never run out."""
    client = scene.clients.publish("passing")
    passing = 'count({__name__=~"nexus_stream_.*",stream="passing"})'
    wait_until("it is told of", lambda: scene.prometheus.values(passing) != [], 20, every=0.3)
    scene.clients.end(client)
    start = time.monotonic()
    live = 'nexus_stream_live{stream="passing"}'
    wait_until("it waits", lambda: scene.prometheus.values(live) == [0.0], 20, every=0.3)
    wait_until("it is gone", lambda: scene.prometheus.values(passing) == [], 30, every=0.3)
    assert time.monotonic() - start < 30
