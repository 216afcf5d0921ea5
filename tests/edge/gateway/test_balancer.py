"""Which server is asked: by load, by key, and without those that keep failing."""

import random
from collections import Counter

from edge.gateway.balancer import Balancer, Server
from services.platform.backend_api.api import Health, Outlier, Target

OUTLIER = Outlier(failures_max=3, eject_seconds=10, ejected_percent_max=50)


def balancer(
    count: int = 4, *, mode: str = "least_loaded", weights: tuple[int, ...] = (), seed: int = 1
) -> Balancer:
    targets = [
        Target(url=f"http://s{at}", weight=weights[at] if weights else 1) for at in range(count)
    ]
    chance = random.Random(seed)
    chosen = "hash" if mode == "hash" else "least_loaded"
    return Balancer(targets, mode=chosen, outlier=OUTLIER, random=chance.random)


def serve(
    among: Balancer, server: Server, *, ok: bool = True, seconds: float = 0.01, now: float = 0.0
) -> None:
    among.settle(server, ok=ok, seconds=seconds, now=now)


def test_a_slow_server_gets_less() -> None:
    among, counts = balancer(2), Counter[str]()
    for step in range(400):
        now = step * 0.01
        server = among.pick(now)
        counts[server.url] += 1
        serve(among, server, seconds=0.5 if server.url == "http://s0" else 0.005, now=now)
    assert counts["http://s0"] < 40


def test_requests_under_way_count() -> None:
    among = balancer(2)
    for server in among.servers:
        server.latency_seconds = 0.01
    held = [among.pick(0.0) for _ in range(10)]
    assert Counter(one.url for one in held) == {"http://s0": 5, "http://s1": 5}


def test_weights_are_kept() -> None:
    among = balancer(2, weights=(9, 1))
    for server in among.servers:
        server.latency_seconds = 0.01
    held = Counter(among.pick(0.0).url for _ in range(100))
    assert 80 <= held["http://s0"] <= 95


def test_a_server_whose_checks_fail_is_left_out_until_they_do_not() -> None:
    among, rule = balancer(2), Health(failures_max=2, successes_min=3)
    first, second = among.servers
    said = [among.checked(first, well=well, rule=rule) for well in (False, True, False, False)]
    assert said == [False, False, False, True], "twice in a row"
    assert {among.pick(0.0).url for _ in range(20)} == {second.url}
    assert not any(among.checked(second, well=False, rule=rule) for _ in range(1))
    assert among.checked(second, well=False, rule=rule)
    assert {among.pick(0.0).url for _ in range(40)} == {first.url, second.url}, "rather than none"
    said = [among.checked(first, well=True, rule=rule) for _ in range(4)]
    assert said == [False, False, True, False]
    assert {among.pick(0.0).url for _ in range(20)} == {first.url}


def test_a_key_always_leads_to_the_same_server_and_only_a_lost_ones_keys_move() -> None:
    among = balancer(5, mode="hash")
    before = {f"k{n}": among.pick(0.0, key=f"k{n}").url for n in range(500)}
    again = {key: among.pick(1.0, key=key).url for key in before}
    assert again == before
    assert min(Counter(before.values()).values()) > 50
    lost = among.servers[2]
    lost.out_until = 100.0
    after = {key: among.pick(2.0, key=key).url for key in before}
    moved = [key for key in before if before[key] != after[key]]
    assert {before[key] for key in moved} == {lost.url}
    assert lost.url not in after.values()


def test_a_failing_server_is_left_out_for_a_while_and_longer_the_next_time() -> None:
    among = balancer(4)
    bad = among.servers[0]
    for _ in range(3):
        bad.under_way += 1
        serve(among, bad, ok=False, now=1.0)
    assert bad.out_until == 11.0
    assert all(among.pick(5.0).url != bad.url for _ in range(50))
    for _ in range(3):
        bad.under_way += 1
        serve(among, bad, ok=False, now=12.0)
    assert bad.out_until == 32.0
    bad.under_way += 1
    serve(among, bad, ok=True, now=33.0)
    assert bad.ejections == 0


def test_never_more_than_half_are_left_out() -> None:
    among = balancer(4)
    for server in among.servers:
        for _ in range(3):
            server.under_way += 1
            serve(among, server, ok=False, now=1.0)
    assert sum(server.out_until > 1.0 for server in among.servers) == 2


def test_what_was_tried_is_not_tried_again_while_there_are_others() -> None:
    among = balancer(3)
    tried: list[Server] = []
    for _ in range(3):
        tried.append(among.pick(0.0, without=tried))
    assert len({server.url for server in tried}) == 3
    assert among.pick(0.0, without=tried)


def test_who_gives_up_says_nothing_of_the_server() -> None:
    among = balancer(1)
    server = among.pick(0.0)
    among.settle(server, ok=None, seconds=9.0, now=9.0)
    assert (server.under_way, server.failures, server.measured_at) == (0, 0, 0.0)
