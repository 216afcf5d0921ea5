"""Who asks: a bearer token or an API key becomes a principal, remembered while it holds.

    Authorization: Bearer <token>    a signed statement (ops/tokens.py)
    X-Api-Key: <key>                 a consumer of the configuration, known by the key's SHA-256
    neither                          anonymous

A header that is there and opens nothing is refused (401), whatever the route: who shows a broken
credential is not served as a stranger. Every decision about a principal is kept with it, so it is
made once for each token, not for each request.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from ops import metrics
from ops.errors import Rejected
from ops.tokens import TokenRejected, Verified, Verifier
from services._kit.actor import Actor, ActorKind
from services.platform.backend_api.api import Access, Consumer

_known = metrics.gauge(
    "nexus_gateway_principals", "Tokens and API keys whose bearer is remembered."
)

KEY_CHARACTERS_MAX: Final = 512
_BEARER: Final = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)
_KINDS: Final[Mapping[str, ActorKind]] = {"user": "user", "service": "service"}


@dataclass(slots=True)
class Principal:
    """Who was recognised, and what has been decided about them."""

    id: str
    tenant: str
    kind: ActorKind = "user"
    permissions: frozenset[str] = frozenset()
    session: str = ""
    plan: str = ""
    credential: str = ""
    """What a limit by key counts under: the API key's name, or the token's session."""
    expires_unix: float = 0.0
    not_before_unix: float = 0.0
    decisions: dict[str, bool] = field(default_factory=dict, repr=False)
    _last: Actor | None = field(default=None, repr=False, compare=False)
    """As services last knew them: most clients ask from one address."""

    def may(self, permission: str) -> bool:
        """Whether a role grants it. Bounded: only permissions of routes are asked for."""
        decided = self.decisions.get(permission)
        if decided is None:
            decided = self.decisions[permission] = self.actor().may(permission)
        return decided

    def actor(self, *, address: str = "", trace: str = "") -> Actor:
        """As services know who asks."""
        last = self._last
        if last is not None and last.address == address and last.trace == trace:
            return last
        self._last = made = Actor(
            id=self.id,
            tenant=self.tenant,
            kind=self.kind,
            permissions=self.permissions,
            session=self.session,
            address=address,
            trace=trace,
        )
        return made


NOBODY: Final = Principal("", "", "anonymous")


class Identities:
    """Recognises principals. One for a worker."""

    def __init__(
        self, verifier: Verifier | None, *, known_max: int, clock: Callable[[], float]
    ) -> None:
        """verifier: None where no token is taken. clock: unix seconds."""
        self._verifier = verifier
        self._known_max = known_max
        self._clock = clock
        self._consumers: dict[str, Consumer] = {}
        self._by_header: dict[str, Principal] = {}
        self._by_key: dict[str, Principal] = {}

    def configure(self, consumers: tuple[Consumer, ...]) -> None:
        """These keys hold from now on."""
        self._consumers = {one.key_sha256: one for one in consumers if not one.disabled}
        self._by_key.clear()

    def flush(self) -> None:
        """Forgets everybody: each credential is looked at anew."""
        self._by_header.clear()
        self._by_key.clear()
        if self._verifier is not None:
            self._verifier.flush()

    def known(self, *, authorization: str, api_key: str) -> Principal | None:
        """The principal, if no signature has to be checked for it; two credentials have none."""
        if authorization and api_key:
            return None
        if authorization:
            found = self._by_header.get(authorization)
            now = self._clock()
            if found is not None and found.not_before_unix <= now < found.expires_unix:
                return found
            return None
        return self._by_key.get(api_key) if api_key else NOBODY

    def find(self, *, authorization: str, api_key: str) -> Principal:
        """The principal of a request's two header fields. Raises Rejected (`auth.…`)."""
        if authorization and api_key:
            raise Rejected("show a token or an API key, not both", code="auth.invalid")
        found = self.known(authorization=authorization, api_key=api_key)
        if found is not None:
            return found
        if authorization:
            return self._keep(self._by_header, authorization, self._by_token(authorization))
        return self._keep(self._by_key, api_key, self._by_api_key(api_key))

    def _by_token(self, authorization: str) -> Principal:
        match = _BEARER.fullmatch(authorization)
        if match is None:
            raise Rejected("Authorization is not 'Bearer' and a token", code="auth.invalid")
        if self._verifier is None:
            raise TokenRejected("no tokens are taken here")
        said: Verified = self._verifier.verify(match[1], now=self._clock())
        return Principal(
            id=said.subject,
            tenant=said.tenant,
            kind=_KINDS[said.kind],
            permissions=said.permissions,
            session=said.session,
            plan=said.plan,
            credential=f"token:{said.session or said.subject}",
            expires_unix=said.expires_unix,
            not_before_unix=said.not_before_unix,
        )

    def _by_api_key(self, api_key: str) -> Principal:
        if len(api_key) > KEY_CHARACTERS_MAX:
            raise Rejected("this API key is not known", code="auth.invalid")
        digest = hashlib.sha256(api_key.encode("utf-8", "surrogateescape")).hexdigest()
        # By its digest: how long this takes says nothing of the keys there are.
        consumer = self._consumers.get(digest)
        if consumer is None:
            raise Rejected("this API key is not known", code="auth.invalid")
        # So called that no user of the tenant is taken for it, nor their answers for each other's.
        name = f"key:{consumer.name}"
        return Principal(
            id=name,
            tenant=consumer.tenant,
            kind="service",
            permissions=frozenset(consumer.permissions),
            plan=consumer.plan,
            credential=name,
        )

    def _keep(self, known: dict[str, Principal], name: str, found: Principal) -> Principal:
        if len(known) >= self._known_max:
            del known[next(iter(known))]
        known[name] = found
        _known.set(len(self._by_header) + len(self._by_key))
        return found


def check_access(principal: Principal, access: Access, needs: str) -> None:
    """Raises Rejected (`auth.missing`, `auth.forbidden`). The order of evaluation is: forbid what
    no role grants; whether the object is of the tenant the database itself decides (404).
    """
    if access == "public":
        return
    if principal.kind == "anonymous":
        raise Rejected(
            "somebody must be signed in: Authorization: Bearer …, or X-Api-Key",
            code="auth.missing",
        )
    if access == "permission" and not principal.may(needs):
        raise Rejected(
            "this needs a permission that you do not have",
            code="auth.forbidden",
            fields={"permission": needs},
        )
