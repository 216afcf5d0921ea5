"""Bearer tokens: signed statements (JWT, RFC 7519, ES256) of who asks, for which tenant, how long.

`Verifier` reads them for whoever holds a door: the gateway, and media's adapters. A signature costs
0.1 ms to check, so a token that was found good is remembered, bounded, and only its times are
looked at again; `flush` forgets all, `forget` those of one subject. `Issuer` signs them with the
keys of a file until the identity services do: the first key signs, every one of them holds.

A token's claims: iss, aud ("nexus"), sub, tenant, exp, and if wanted nbf, iat, jti, sid, kind,
plan, permissions. Anything else is left alone. What a permission opens is not decided here.
"""

import contextlib
import math
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet

from ops import metrics
from ops.errors import Rejected
from ops.settings import setting

ALGORITHM: Final = "ES256"
AUDIENCE: Final = "nexus"
CHARACTERS_MAX: Final = 8_192
"""Longest token that is looked at."""
PERMISSIONS_MAX: Final = 1_000
_KEY_FILE_BYTES_MAX: Final = 65_536
_TEXT_MAX: Final = 256

_verified = metrics.counter("nexus_tokens_verified", "Tokens whose signature was checked.", ("ok",))
_verified.expect(("yes",), ("no",))
_known = metrics.gauge("nexus_tokens_known", "Verified tokens that are remembered.")


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """The keys that sign and verify bearer tokens."""

    key_file: Path = setting(
        Path(), "File with the keys (a JWK set, mode 0600); empty: one in the data directory."
    )
    issuer: str = setting("nexus", "Whose tokens are taken: the claim iss.")
    known_max: int = setting(
        20_000, "Verified tokens that one process remembers.", min=16, max=10_000_000
    )
    leeway_seconds: int = setting(
        5, "Seconds that clocks of different machines may differ.", min=0, max=300
    )


class TokenRejected(Rejected):
    """A token that opens nothing; the message says why, in words that are safe to show."""

    code = "auth.invalid"


@dataclass(frozen=True, slots=True)
class Verified:
    """What a good token says."""

    subject: str
    tenant: str
    kind: str = "user"
    permissions: frozenset[str] = frozenset()
    session: str = ""
    plan: str = ""
    expires_unix: float = 0.0
    not_before_unix: float = 0.0
    id: str = field(default="", compare=False)


class _Claims(msgspec.Struct):
    """The claims as they travel."""

    iss: str
    aud: str | list[str]
    sub: str
    tenant: str
    exp: float
    nbf: float = 0.0
    jti: str = ""
    sid: str = ""
    kind: str = "user"
    plan: str = ""
    permissions: list[str] = msgspec.field(default_factory=list)


class Verifier:
    """Says whose a token is. One for a process; nothing of it waits."""

    def __init__(
        self, keys: Iterable[ECKey], *, issuer: str, known_max: int, leeway_seconds: float = 0.0
    ) -> None:
        self._keys = KeySet(list(keys))
        self._issuer = issuer
        self._known_max = known_max
        self._leeway = leeway_seconds
        self._known: dict[str, Verified] = {}

    def verify(self, token: str, *, now: float) -> Verified:
        """What the token says; `now` in unix seconds. Raises TokenRejected.

        Cost: 0.2 µs for a known one, else 0.1 ms.
        """
        found = self._known.get(token)
        if found is None:
            found = self._read(token)
            self._check_times(found, now)
            if len(self._known) >= self._known_max:
                del self._known[next(iter(self._known))]
            self._known[token] = found
            _known.set(len(self._known))
        elif now >= found.expires_unix or now < found.not_before_unix:
            # Nearly always only an exp that has come: the leeway is looked at there.
            try:
                self._check_times(found, now)
            except TokenRejected:
                del self._known[token]
                raise
        return found

    def replace(self, keys: Iterable[ECKey]) -> None:
        """Other keys hold from now on: every token is verified anew."""
        self._keys = KeySet(list(keys))
        self.flush()

    def flush(self) -> None:
        """Forgets every token."""
        self._known.clear()
        _known.set(0)

    def forget(self, subject: str, *, tenant: str) -> None:
        """Forgets the tokens of one subject."""
        for token, found in list(self._known.items()):
            if found.subject == subject and found.tenant == tenant:
                del self._known[token]

    def __len__(self) -> int:
        return len(self._known)

    def _check_times(self, found: Verified, now: float) -> None:
        if now >= found.expires_unix + self._leeway:
            raise TokenRejected("this token has expired", code="auth.expired")
        if now < found.not_before_unix - self._leeway:
            raise TokenRejected("this token does not hold yet")

    def _read(self, token: str) -> Verified:
        if len(token) > CHARACTERS_MAX or token.count(".") != 2:
            raise TokenRejected("this is not a token")
        try:
            claims = jwt.decode(token, self._keys, algorithms=[ALGORITHM]).claims
        except (JoseError, ValueError, TypeError, KeyError, RecursionError):
            _verified.inc(labels=("no",))
            raise TokenRejected("this token is not known here") from None
        _verified.inc(labels=("yes",))
        try:
            read = msgspec.convert(claims, _Claims)
        except msgspec.ValidationError:
            raise TokenRejected("this token lacks a claim, or has a malformed one") from None
        audiences = [read.aud] if isinstance(read.aud, str) else read.aud
        if read.iss != self._issuer or AUDIENCE not in audiences:
            raise TokenRejected("this token is for somebody else")
        texts = (read.sub, read.tenant, read.sid, read.kind, read.plan)
        if not read.sub or not read.tenant or any(len(text) > _TEXT_MAX for text in texts):
            raise TokenRejected("this token lacks a claim, or has a malformed one")
        if not (math.isfinite(read.exp) and math.isfinite(read.nbf)):
            raise TokenRejected("this token lacks a claim, or has a malformed one")
        if read.kind not in {"user", "service"} or len(read.permissions) > PERMISSIONS_MAX:
            raise TokenRejected("this token lacks a claim, or has a malformed one")
        return Verified(
            subject=read.sub,
            tenant=read.tenant,
            kind=read.kind,
            permissions=frozenset(read.permissions),
            session=read.sid,
            plan=read.plan,
            expires_unix=read.exp,
            not_before_unix=read.nbf,
            id=read.jti,
        )


class Issuer:
    """Signs tokens with the first of the keys."""

    def __init__(self, keys: Iterable[ECKey], *, issuer: str) -> None:
        self._key = next(iter(keys))
        self._issuer = issuer

    def issue(
        self,
        subject: str,
        *,
        tenant: str,
        permissions: Iterable[str] = (),
        seconds: float,
        now: float,
        **claims: Any,
    ) -> str:
        """A token that holds from `now` (unix) for so many seconds; further claims by name."""
        said = {
            "iss": self._issuer,
            "aud": AUDIENCE,
            "sub": subject,
            "tenant": tenant,
            "permissions": sorted(permissions),
            "iat": int(now),
            "exp": int(now + seconds),
            "jti": secrets.token_urlsafe(12),
            **claims,
        }
        header = {"alg": ALGORITHM, "kid": self._key.kid}
        return jwt.encode(header, said, self._key, algorithms=[ALGORITHM])


def new_key() -> ECKey:
    """A key that signs, with a name of its own."""
    return ECKey.generate_key("P-256", {"use": "sig", "alg": ALGORITHM}, auto_kid=True)


def load_keys(path: Path) -> tuple[ECKey, ...]:
    """The keys of a file, made with a new one if there is none; several may start at once.

    Raises Rejected (`tokens.key_file`) when it cannot be used, or others may read it.
    """
    with contextlib.suppress(FileNotFoundError):
        return _read_keys(path)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    mine = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    text = msgspec.json.encode({"keys": [new_key().as_dict(private=True)]})
    descriptor = os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            # Whoever links first has made the key of all.
            path.hardlink_to(mine)
    finally:
        mine.unlink(missing_ok=True)
    return _read_keys(path)


def _read_keys(path: Path) -> tuple[ECKey, ...]:
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        data = file.read(_KEY_FILE_BYTES_MAX)
    if mode & 0o077:
        raise Rejected("the token keys can be read by others: chmod 600", code="tokens.key_file")
    try:
        keys = tuple(ECKey.import_key(one) for one in msgspec.json.decode(data)["keys"])
    except (msgspec.DecodeError, JoseError, KeyError, TypeError, ValueError):
        raise Rejected("the token keys are not a JWK set", code="tokens.key_file") from None
    if not keys or any(key.curve_name != "P-256" for key in keys):
        raise Rejected("the token keys are not of the curve P-256", code="tokens.key_file")
    return keys
