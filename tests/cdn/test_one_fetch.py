"""What an edge is for: the origin answers as much for 500 viewers as for 10, each with a link of
its own, and a part is there about as soon as at the origin.

The short form watches with 3 and 40 viewers for four seconds, the long one (`make prove`) with 10
and 500 for a minute each; the long one's figures go to benchmarks/results.jsonl.
"""

import subprocess
import sys
from pathlib import Path

import msgspec

from benchmarks import results
from benchmarks.results import Row
from tests.cdn.conftest import CHIEF, SECRET, Origin
from tests.cdn.servers import RemoteEdge
from tests.cdn.viewers import Order, Seen
from tests.end_to_end.figures import say

ROOT = Path(__file__).parents[2]
JOINING_REQUESTS = 12
"""What joining costs besides: a multivariant and a plain playlist a second at most."""
LATER_MS_MAX = 30.0
"""How much later than at the origin itself a part is there, median."""


def view(origin: Origin, port: int, viewers: int, seconds: float) -> Seen:
    """Viewers in a process of their own."""
    order = Order(port, viewers, seconds, SECRET, origin.port, CHIEF)
    words = [sys.executable, "-m", "tests.cdn.viewers", msgspec.json.encode(order).decode()]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, timeout=seconds + 120, check=False)
    assert done.returncode == 0, done.stderr.decode()[-4_000:]
    return msgspec.json.decode(done.stdout, type=Seen)


def test_the_origin_answers_as_much_for_many_viewers_as_for_few(
    origin: Origin, remote: RemoteEdge, *, prove: bool, slack: float
) -> None:
    seconds = 60.0 if prove else 4.0
    requests: dict[int, float] = {}
    rows: list[Row] = []
    head = results.origin()
    before = origin.settled_answers()
    for viewers in (10, 500) if prove else (3, 40):
        seen = view(origin, remote.nginx.port, viewers, seconds)
        after = origin.settled_answers()
        asked, before = after - before - seen.reference_requests, after
        requests[viewers] = asked / seen.distinct_parts
        p50, p95, p99 = seen.late_ms
        say(
            f"behind the remote edge, {viewers} viewers with links, {seconds:.0f} s",
            origin_requests=asked,
            parts=seen.distinct_parts,
            requests_a_part=f"{requests[viewers]:.3f}",
            viewer_requests=seen.playlists + seen.parts,
            later_than_at_the_origin_p50_ms=p50,
            p95_ms=p95,
            p99_ms=p99,
        )
        rows.append(
            Row(
                bench="cdn.origin_requests",
                who="nexus behind varnish",
                clients=viewers,
                unit="part",
                p50_ms=p50,
                p95_ms=p95,
                p99_ms=p99,
                more={
                    "requests_per_part": round(requests[viewers], 4),
                    "viewer_requests": seen.playlists + seen.parts,
                    "seconds": seconds,
                },
                note="each viewer has a link of its own; ms later than at the origin",
            )
        )
        assert not seen.bad, seen.bad
        assert seen.parts >= 0.8 * viewers * seen.distinct_parts * seconds / (seconds + 2)
        # The edge asks for nearly every part and playlist once; how nearly is the other's count.
        fetched = 2 * seen.distinct_parts
        assert 0.8 * fetched <= asked <= fetched + JOINING_REQUESTS, "one fetch for each"
        if viewers <= 40:
            assert p50 <= LATER_MS_MAX * slack
    if prove:
        results.append(rows, results.default_path(), head)
        few, many = requests.values()
        assert abs(many / few - 1) <= 0.05, requests
