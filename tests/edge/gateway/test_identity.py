"""Who asks: tokens, API keys, nobody; what is remembered, and when it is looked at anew."""

import hashlib

import pytest

from edge.gateway.identity import NOBODY, Identities, Principal, check_access
from ops.errors import Rejected
from ops.tokens import Issuer, Verifier, new_key
from services.platform.backend_api.api import Consumer
from tests.fakes.clock import FakeClock

KEY = new_key()
TILL = Consumer(
    name="till",
    tenant="acme",
    key_sha256=hashlib.sha256(b"nxk_till").hexdigest(),
    permissions=("shop.order.*",),
    plan="gold",
)


def identities(clock: FakeClock, known_max: int = 100) -> Identities:
    verifier = Verifier((KEY,), issuer="nexus", known_max=known_max)
    made = Identities(verifier, known_max=known_max, clock=clock.unix)
    made.configure((TILL,))
    return made


def token(clock: FakeClock, subject: str = "ada", seconds: float = 60) -> str:
    issuer = Issuer((KEY,), issuer="nexus")
    return "Bearer " + issuer.issue(
        subject, tenant="acme", permissions=("shop.order.read",), seconds=seconds, now=clock.unix()
    )


def test_a_token_becomes_a_principal_and_stays_one_until_it_ends() -> None:
    clock = FakeClock()
    known, shown = identities(clock), token(clock)
    ada = known.find(authorization=shown, api_key="")
    assert (ada.id, ada.tenant, ada.kind) == ("ada", "acme", "user")
    assert known.find(authorization=shown, api_key="") is ada
    clock.advance(61)
    with pytest.raises(Rejected) as caught:
        known.find(authorization=shown, api_key="")
    assert caught.value.code == "auth.expired"


def test_an_api_key_becomes_its_consumer() -> None:
    known = identities(FakeClock())
    till = known.find(authorization="", api_key="nxk_till")
    assert (till.id, till.tenant, till.kind, till.plan) == ("key:till", "acme", "service", "gold")
    assert till.may("shop.order.read")
    assert not till.may("shop.item.read")
    known.configure(())
    with pytest.raises(Rejected):
        known.find(authorization="", api_key="nxk_till")


@pytest.mark.parametrize(
    "authorization", ["Basic abc", "Bearer", "Bearer a b", "Bearer a.b.c", "x"]
)
def test_what_opens_nothing_is_refused_and_not_remembered(authorization: str) -> None:
    known = identities(FakeClock())
    with pytest.raises(Rejected) as caught:
        known.find(authorization=authorization, api_key="")
    assert caught.value.code == "auth.invalid"
    assert known.known(authorization=authorization, api_key="") is None


@pytest.mark.parametrize("api_key", ["x", "nxk_til", "k" * 600, "nxk_till "])
def test_unknown_api_keys(api_key: str) -> None:
    with pytest.raises(Rejected):
        identities(FakeClock()).find(authorization="", api_key=api_key)


def test_two_credentials_are_one_too_many() -> None:
    clock = FakeClock()
    known = identities(clock)
    shown = token(clock)
    for _ in range(2):
        with pytest.raises(Rejected):
            known.find(authorization=shown, api_key="nxk_till")
        assert known.known(authorization=shown, api_key="nxk_till") is None
        # Also when it is known already.
        known.find(authorization=shown, api_key="")


def test_neither_is_nobody() -> None:
    assert identities(FakeClock()).find(authorization="", api_key="") is NOBODY


def test_no_more_are_remembered_than_may_be_and_flush_forgets_all() -> None:
    clock = FakeClock()
    known = identities(clock, known_max=16)
    shown = [token(clock, f"user{n}") for n in range(20)]
    for one in shown:
        known.find(authorization=one, api_key="")
    assert known.known(authorization=shown[0], api_key="") is None
    assert known.known(authorization=shown[-1], api_key="") is not None
    known.flush()
    assert known.known(authorization=shown[-1], api_key="") is None


def test_access() -> None:
    ada = Principal("ada", "acme", permissions=frozenset({"shop.order.read"}))
    check_access(NOBODY, "public", "")
    check_access(ada, "signed_in", "")
    check_access(ada, "permission", "shop.order.read")
    for who, access, needs, code in (
        (NOBODY, "signed_in", "", "auth.missing"),
        (NOBODY, "permission", "shop.order.read", "auth.missing"),
        (ada, "permission", "shop.order.write", "auth.forbidden"),
    ):
        with pytest.raises(Rejected) as caught:
            check_access(who, access, needs)  # type: ignore[arg-type]
        assert caught.value.code == code
    assert ada.decisions == {"shop.order.read": True, "shop.order.write": False}


def test_the_actor_is_the_principal_at_this_address() -> None:
    ada = Principal("ada", "acme", permissions=frozenset({"a.b.c"}), session="s")
    actor = ada.actor(address="192.0.2.1", trace="00-1-2-01")
    assert (actor.id, actor.tenant, actor.session) == ("ada", "acme", "s")
    assert (actor.address, actor.trace) == ("192.0.2.1", "00-1-2-01")
