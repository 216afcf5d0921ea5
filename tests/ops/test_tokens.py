"""Bearer tokens: which open something, which do not, and what is remembered of them."""

import base64
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from ops.errors import Rejected
from ops.tokens import Issuer, TokenRejected, Verifier, load_keys, new_key

NOW = 1_750_000_000.0
KEY = new_key()


def verifier(*keys: ECKey, known_max: int = 100) -> Verifier:
    return Verifier(keys or (KEY,), issuer="nexus", known_max=known_max)


def issued(key: ECKey = KEY, seconds: float = 60, **more: Any) -> str:
    issuer = Issuer((key,), issuer="nexus")
    return issuer.issue(
        "ada", tenant="acme", permissions=("a.b.c", "a.b.d"), seconds=seconds, now=NOW, **more
    )


def signed(claims: dict[str, Any], key: Any = KEY, **header: Any) -> str:
    whole = {
        "iss": "nexus",
        "aud": "nexus",
        "sub": "ada",
        "tenant": "acme",
        "exp": NOW + 60,
    } | claims
    whole = {name: value for name, value in whole.items() if value is not None}
    head = {"alg": "ES256", "kid": key.kid, **header}
    return jwt.encode(head, whole, key, algorithms=[head["alg"]])


def test_what_was_issued_is_known_again() -> None:
    said = verifier().verify(issued(sid="s1", plan="gold"), now=NOW + 1)
    assert (said.subject, said.tenant, said.kind) == ("ada", "acme", "user")
    assert said.permissions == {"a.b.c", "a.b.d"}
    assert (said.session, said.plan) == ("s1", "gold")
    assert said.expires_unix == NOW + 60


def test_a_known_token_ends_when_it_said_it_would() -> None:
    known, token = verifier(), issued()
    known.verify(token, now=NOW)
    assert len(known) == 1
    known.verify(token, now=NOW + 59)
    with pytest.raises(TokenRejected) as caught:
        known.verify(token, now=NOW + 61)
    assert caught.value.code == "auth.expired"
    assert len(known) == 0


def test_the_times_are_looked_at_with_leeway() -> None:
    lenient = Verifier((KEY,), issuer="nexus", known_max=100, leeway_seconds=5)
    token = issued()
    lenient.verify(token, now=NOW)
    lenient.verify(token, now=NOW + 63)
    with pytest.raises(TokenRejected):
        lenient.verify(token, now=NOW + 66)
    early = signed({"nbf": NOW + 10})
    lenient.verify(early, now=NOW + 6)
    with pytest.raises(TokenRejected):
        lenient.verify(early, now=NOW)


def test_a_revoked_token_is_looked_at_anew() -> None:
    known = verifier()
    ada = issued()
    known.verify(ada, now=NOW)
    known.forget("bob", tenant="acme")
    known.forget("ada", tenant="other")
    assert len(known) == 1
    known.forget("ada", tenant="acme")
    assert len(known) == 0
    known.verify(ada, now=NOW)
    known.replace((new_key(),))
    with pytest.raises(TokenRejected):
        known.verify(ada, now=NOW)


def test_no_more_are_remembered_than_may_be() -> None:
    known = verifier(known_max=20)
    for number in range(30):
        known.verify(issued(sid=str(number)), now=NOW)
    assert len(known) == 20


def _part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _unsigned() -> str:
    said = {"iss": "nexus", "aud": "nexus", "sub": "ada", "tenant": "acme", "exp": NOW + 60}
    return ".".join((_part({"alg": "none", "kid": KEY.kid}), _part(said), ""))


def _by_public_key() -> str:
    """HS256 with the public key as its secret: what a lax library takes for ES256's. The library
    refuses to make one, so it is made by hand."""
    said = {"iss": "nexus", "aud": "nexus", "sub": "ada", "tenant": "acme", "exp": NOW + 60}
    text = ".".join(map(_part, ({"alg": "HS256", "kid": KEY.kid}, said)))
    mac = hmac.digest(KEY.as_pem(private=False), text.encode(), "sha256")
    return f"{text}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


BAD = {
    "empty": "",
    "no token": "a.b.c",
    "too long": "a." * 9_000,
    "another's key": issued(new_key()),
    "another's key under our name": signed({}, new_key(), kid=KEY.kid),
    "unsigned": _unsigned(),
    "signed by the public key": _by_public_key(),
    "changed": issued()[:-8] + "AAAAAAAA",
    "another issuer": signed({"iss": "elsewhere"}),
    "another audience": signed({"aud": ["else"]}),
    "no subject": signed({"sub": None}),
    "empty subject": signed({"sub": ""}),
    "no tenant": signed({"tenant": None}),
    "no end": signed({"exp": None}),
    "an end that never comes": signed({"exp": float("inf")}),
    "an end that is no number": signed({"exp": float("nan")}),
    "an end that is text": signed({"exp": "tomorrow"}),
    "permissions that are text": signed({"permissions": "a.b.c"}),
    "another kind": signed({"kind": "root"}),
    "expired": signed({"exp": NOW - 1}),
    "not yet": signed({"nbf": NOW + 1}),
}


@pytest.mark.parametrize("name", BAD)
def test_nothing_else_opens_anything(name: str) -> None:
    known = verifier()
    with pytest.raises(TokenRejected):
        known.verify(BAD[name], now=NOW)
    assert len(known) == 0


def test_an_audience_among_others_will_do() -> None:
    assert verifier().verify(signed({"aud": ["else", "nexus"]}), now=NOW)


def test_old_keys_hold_after_a_new_one_signs() -> None:
    old, new = new_key(), new_key()
    both = verifier(new, old)
    assert both.verify(issued(old), now=NOW)
    assert both.verify(issued(new), now=NOW)


def test_the_key_file_is_made_once_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "tokens.json"
    first = load_keys(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [key.kid for key in load_keys(path)] == [key.kid for key in first]
    assert [one.name for one in path.parent.iterdir()] == ["tokens.json"]


@pytest.mark.parametrize(
    "text", ["", "{}", '{"keys": []}', '{"keys": [{"kty": "oct", "k": "AAAA"}]}']
)
def test_a_key_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokens.json"
    path.touch(mode=0o600)
    path.write_text(text)
    with pytest.raises(Rejected):
        load_keys(path)


def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    load_keys(path)
    path.chmod(0o640)
    with pytest.raises(Rejected, match="chmod"):
        load_keys(path)
