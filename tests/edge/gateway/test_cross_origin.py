"""Which other sites' pages may ask."""

from edge.gateway.cross_origin import CrossOrigin
from services.platform.backend_api.api import Cors

SHOP = "https://shop.example"


def rule(*origins: str, credentials: bool = False) -> CrossOrigin:
    return CrossOrigin.of(
        Cors(name="web", origins=origins, methods=("GET", "POST"), credentials=credentials)
    )


def test_named_origins_and_those_below_a_name() -> None:
    web = rule(SHOP, "https://*.pages.example")
    for origin in (SHOP, "https://a.pages.example", "https://a.b.pages.example"):
        assert web.allows(origin), origin
    for origin in (
        "http://shop.example",
        "https://shop.example:444",
        "https://pages.example",
        "https://evilpages.example",
        "https://a.pages.example.evil.test",
        "https://evil.test/.pages.example",
        "null",
        "",
    ):
        assert not web.allows(origin), origin


def test_an_answer_to_an_allowed_origin_names_it() -> None:
    said = dict(rule(SHOP, credentials=True).fields(SHOP))
    assert said["access-control-allow-origin"] == SHOP
    assert said["access-control-allow-credentials"] == "true"
    assert said["vary"] == "Origin"
    assert "ratelimit" in said["access-control-expose-headers"]


def test_an_answer_to_another_origin_says_nothing_but_that_it_varies() -> None:
    assert rule(SHOP).fields("https://evil.test") == [("vary", "Origin")]


def test_everybody_is_a_star_without_vary() -> None:
    said = rule("*").fields("https://anything.test")
    assert ("access-control-allow-origin", "*") in said
    assert not [value for name, value in said if name == "vary"]


def test_a_preflight_is_answered_for_what_is_allowed_alone() -> None:
    web = rule(SHOP)
    yes = dict(web.preflight(SHOP, method="POST", headers="Content-Type, authorization"))
    assert yes["access-control-allow-methods"] == "GET, POST"
    assert yes["access-control-max-age"] == "600"
    for origin, method, headers in (
        ("https://evil.test", "POST", ""),
        (SHOP, "DELETE", ""),
        (SHOP, "POST", "x-evil"),
    ):
        no = web.preflight(origin, method=method, headers=headers)
        assert {name for name, _ in no} == {"vary"}
