"""What an edge is for: the origin answers as much for 500 viewers as for 10, each with a link of its
own, and a part is there about as soon as at the origin.

The short form watches with 3 and 40 viewers for some seconds, the long one (`make prove`) with 10
and 500 for a minute each; the long one's figures go to benchmarks/results.jsonl.
"""

import subprocess
import sys
from pathlib import Path

import msgspec

from benchmarks import results
from tests.cdn.conftest import CHIEF, SECRET, Origin
from tests.cdn.servers import RemoteEdge
from tests.cdn.viewers import Order, Seen
from tests.end_to_end.figures import say

ROOT = Path(__file__).parents[2]
JOINING_REQUESTS = 12
"""What joining costs besides: a multivariant and a plain playlist a second at most."""


def view(origin: Origin, port: int, viewers: int, seconds: float, *, key: str = "") -> Seen:
    """Viewers in a process of their own."""
    order = Order(port, viewers, seconds, SECRET, origin.port, key)
    words = [sys.executable, "-m", "tests.cdn.viewers", msgspec.json.encode(order).decode()]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, timeout=seconds + 120, check=False)
    assert done.returncode == 0, done.stderr.decode()[-4_000:]
    return msgspec.json.decode(done.stdout, type=Seen)


def test_the_origin_answers_as_much_for_many_viewers_as_for_few(
    origin: Origin, remote: RemoteEdge, *, prove: bool
) -> None:
    seconds = 60.0 if prove else 6.0
    requests: dict[int, float] = {}
    lines: list[dict[str, object]] = []
    for viewers in (10, 500) if prove else (3, 40):
        before = origin.settled_answers()
        seen = view(origin, remote.nginx.port, viewers, seconds)
        asked = origin.settled_answers() - before
        requests[viewers] = asked / seen.distinct_parts
        say(
            f"origin behind the remote edge, {viewers} viewers with links, {seconds:.0f} s",
            origin_requests=asked,
            parts=seen.distinct_parts,
            requests_a_part=f"{requests[viewers]:.3f}",
            viewer_requests=seen.playlists + seen.parts,
        )
        lines.append(
            {
                "bench": "cdn.origin_requests",
                "who": "nexus behind varnish",
                "clients": viewers,
                "seconds": seconds,
                "unit": "part",
                "requests": round(requests[viewers], 4),
                "viewer_requests": seen.playlists + seen.parts,
            }
        )
        assert not seen.bad, seen.bad
        assert seen.parts >= 0.8 * viewers * seen.distinct_parts
        assert asked <= 2 * seen.distinct_parts + JOINING_REQUESTS, "one fetch for each"
    if prove:
        results.append(lines)
        few, many = requests.values()
        assert abs(many / few - 1) <= 0.05, requests


def test_parts_come_as_soon_as_at_the_origin(
    origin: Origin, remote: RemoteEdge, *, prove: bool, slack: float
) -> None:
    """Compared with a viewer who asks the origin itself."""
    viewers, seconds = (100, 20.0) if prove else (10, 4.0)
    seen = view(origin, remote.nginx.port, viewers, seconds, key=CHIEF)
    p50, p95, p99 = seen.late_ms
    say(f"a part behind the remote edge, {viewers} viewers", p50_ms=p50, p95_ms=p95, p99_ms=p99)
    assert not seen.bad, seen.bad
    assert p50 <= 30 * slack
    assert p95 <= 120 * slack
