"""Who may publish, play and control: keys, an authorisation hook, or the open mode on loopback.

    keys       [[auth.keys]] name, secret (or secret_sha256), actions, streams. A client shows one
               as `Authorization: Bearer`; for HLS also in the path, `/hls/~{key}/…`, or as the
               cookie `nexus_key` (for HLS alone: other sites can make a browser send it).
    links      a signed path opens HLS of one stream for a while: see `edge/play_links.py`.
    hook       auth.hook_url is asked for what no key allows: see `edge/hook.py`.
    open mode  with neither, and only when every listening address is loopback: everything is
               allowed to whoever reaches us on the loopback address by itself, that is
                 - no forwarding header is seen (a proxy on this machine serves strangers: 401);
                 - Host is localhost or a loopback address (a rebound name is a stranger's: 403);
                 - Origin, when sent, is such a host too (another site's script: 403).

A peer's address grants nothing. `media` never sees a token: what is decided leaves as a `Grant`.
"""

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Literal, Protocol

from edge.hook import Hook, HookAnswer, Question
from edge.http_head import Fields
from edge.http_settings import HttpSettings, split_address
from edge.play_links import LinkSecret, PlayLinks
from edge.tls import TlsSettings
from media.messages import Grant
from ops.errors import Rejected
from ops.settings import SettingsError, setting

Action = Literal["publish", "read", "control"]

OPEN_SUBJECT: Final = "local"
PUBLIC_SUBJECT: Final = "public"
LINK_SUBJECT: Final = "link"
_SECRET_CHARACTERS_MIN: Final = 8
_TOKENS_MAX: Final = 4_096
_TOKEN_CHARACTERS_MAX: Final = 4_096
_BEARER: Final = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)
_KEY: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_COOKIE: Final = re.compile(r"(?:^|; *)nexus_key=([A-Za-z0-9._~+/-]+=*)(?:;|$)")


@dataclass(frozen=True, slots=True)
class KeySettings:
    """One key: what its bearer may do."""

    name: str
    """Who it is, for lists and logs."""
    secret: str = setting("", "The key itself.", secret=True)
    secret_sha256: str = setting("", "Or the key's SHA-256 in hexadecimal.")
    actions: tuple[Action, ...] = setting(("publish", "read"), "What it allows.")
    streams: tuple[str, ...] = setting(("*",), "Patterns of the streams' names, such as show-*.")
    shared_cache: bool = setting(
        default=False,
        help="Whether its bearer is a cache that checks play links itself, and so may keep HLS"
        " answers for all its viewers.",
    )

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("name: a key needs a name")
        if bool(self.secret) == bool(self.secret_sha256):
            raise ValueError("secret: give either secret or secret_sha256")
        if self.secret and not _KEY.fullmatch(self.secret):
            raise ValueError("secret: letters, digits and . _ ~ + / - only (it travels as a token)")
        if self.secret and len(self.secret) < _SECRET_CHARACTERS_MIN:
            raise ValueError(f"secret: at least {_SECRET_CHARACTERS_MIN} characters")
        if self.secret_sha256 and not re.fullmatch(r"[0-9a-f]{64}", self.secret_sha256):
            raise ValueError("secret_sha256: 64 lower-case hexadecimal digits")
        if self.shared_cache and self.actions != ("read",):
            raise ValueError("shared_cache: a cache reads, and nothing else: actions = ['read']")
        if not self.actions or not self.streams:
            raise ValueError("actions: a key without actions or streams opens nothing")


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """Keys, the hook, and whether playing needs either."""

    keys: tuple[KeySettings, ...] = setting(
        (),
        "Keys: tables of name, secret or secret_sha256, actions, streams and shared_cache.",
        secret=True,
    )
    read_public: bool = setting(
        default=False,
        help="Whether anybody may play and see the list of streams without a key.",
    )
    hook_url: str = setting(
        "", "URL that is asked (POST, JSON) whether to allow what no key allows; empty for none."
    )
    hook_timeout_seconds: float = setting(
        2.0,
        "Seconds after which an unanswered question counts as no, with status 503.",
        min=0.1,
        max=30,
    )
    hook_cache_seconds: float = setting(
        5.0, "Seconds that the hook's yes to an HLS viewer holds.", min=0, max=300
    )
    hook_concurrency_max: int = setting(
        32, "Questions that one worker asks the hook at once.", min=1, max=1_000
    )
    link_secrets: tuple[LinkSecret, ...] = setting(
        (),
        "Secrets of signed play links: tables of name and secret. The first signs, all hold.",
        secret=True,
    )
    link_seconds: int = setting(
        14_400, "Seconds that a play link lasts when nothing else is asked.", min=1, max=31_536_000
    )
    link_seconds_max: int = setting(
        86_400, "Most seconds that a play link may be asked to last.", min=1, max=31_536_000
    )
    link_origin: str = setting(
        "",
        "What stands before the path in a play link, such as https://cdn.example.org; empty: it is"
        " a path of this server.",
    )

    def __post_init__(self) -> None:
        names = [key.name for key in self.keys]
        if len(set(names)) != len(names):
            raise ValueError("keys: two keys have the same name")
        if self.hook_url and not self.hook_url.startswith(("http://", "https://")):
            raise ValueError("hook_url: an http:// or https:// URL")
        secrets = [secret.name for secret in self.link_secrets]
        if len(set(secrets)) != len(secrets):
            raise ValueError("link_secrets: two secrets have the same name")
        if self.link_seconds > self.link_seconds_max:
            raise ValueError("link_seconds: more than link_seconds_max")
        if self.link_origin and not re.fullmatch(r"https?://[^/?#\s]+", self.link_origin):
            raise ValueError("link_origin: https:// and a host, without a path")

    @property
    def configured(self) -> bool:
        """Whether anything but the open mode decides."""
        return bool(self.keys or self.hook_url)


class _Settings(Protocol):
    @property
    def edge(self) -> HttpSettings: ...
    @property
    def auth(self) -> AuthSettings: ...
    @property
    def tls(self) -> TlsSettings: ...


def check_start(settings: _Settings) -> None:
    """Refuses a node that strangers reach and that nothing guards. Raises: SettingsError."""
    listens = (*settings.edge.listen, *settings.tls.listen)
    foreign = [address for address in listens if not is_loopback(split_address(address)[0])]
    if foreign and not settings.auth.configured:
        raise SettingsError(
            f"{foreign[0]} can be reached by others, and nobody has to show a key: configure"
            " [[auth.keys]] (or NEXUS_AUTH_KEYS) or auth.hook_url, or listen on 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Whether a host, without port, is this machine by name or address. Resolves nothing."""
    name = host.lower().rstrip(".")
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Caller:
    """What a request shows of who sends it."""

    fields: Fields
    protocol: Literal["whip", "whep", "hls", "api"]
    token: str = ""
    link: str = ""
    """A play link in the path, without its underscore; nothing else counts beside it."""
    query: str = ""
    remote: str = ""
    """The peer's address, for the hook and for logs; it decides nothing here."""


@dataclass(frozen=True, slots=True)
class Pass:
    """A yes: who it is, until when, and which streams it covers."""

    grant: Grant
    streams: tuple[str, ...] = ("*",)
    until_unix: float = 0.0
    """When to ask again; 0: never."""
    shared: bool = False
    """Whether the answer may be kept for others: they all may have it, or a cache asks that
    looks at their links itself."""

    def covers(self, stream: str) -> bool:
        return "*" in self.streams or any(fnmatchcase(stream, pattern) for pattern in self.streams)


class Access:
    """Decides. One for a worker.

    Owns: nothing; the hook's connections are the hook's.
    """

    def __init__(
        self,
        settings: AuthSettings,
        *,
        listens: Sequence[str],
        clock: Callable[[], float],
        hook: Hook | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._hook = hook
        self._keys = [(_digest_of(key), key) for key in settings.keys]
        self._known: dict[str, KeySettings] = {}
        self.links = PlayLinks(settings.link_secrets, clock=clock)
        self.open = not settings.configured and all(
            is_loopback(split_address(address)[0]) for address in listens
        )

    def now_unix(self) -> float:
        """The time that a pass's `until_unix` is compared to."""
        return self._clock()

    def decide(self, caller: Caller, action: Action, stream: str) -> Pass | None:
        """A pass; None when only the hook knows (`ask`). Raises: Rejected (`auth.…`, `link.…`)."""
        if caller.link:
            until = self.links.check(caller.link, stream=stream)
            return Pass(Grant(LINK_SUBJECT, ("read",), until), (stream,), until)
        if self.open:
            _guard_open(caller.fields)
            return _OPEN
        key = self._key(caller.token)
        if key is not None and action in key.actions:
            shared = key.shared_cache or self._settings.read_public
            allowed = Pass(Grant(key.name, key.actions), key.streams, shared=shared)
            if not stream or allowed.covers(stream):
                return allowed
        if action == "read" and self._settings.read_public:
            return _PUBLIC
        if self._hook is not None:
            return self._remembered(self._hook, caller, action, stream)
        if key is not None:
            raise Rejected("this key does not allow that", code="auth.forbidden")
        if caller.token:
            raise Rejected("this key is not known", code="auth.invalid")
        raise Rejected("a key is needed: Authorization: Bearer …", code="auth.missing")

    async def ask(self, caller: Caller, action: Action, stream: str) -> Pass:
        """As `decide`, and asks the hook when only it knows. Raises: Rejected, Unavailable."""
        decided = self.decide(caller, action, stream)
        if decided is not None:
            return decided
        assert self._hook is not None
        answer = await self._hook.ask(_question(caller, action, stream))
        return self._pass_of(answer, caller, action)

    def _remembered(self, hook: Hook, caller: Caller, action: Action, stream: str) -> Pass | None:
        if caller.protocol != "hls":
            return None
        answer = hook.remembered(_question(caller, action, stream))
        return None if answer is None else self._pass_of(answer, caller, action)

    def _pass_of(self, answer: HookAnswer, caller: Caller, action: Action) -> Pass:
        if answer.verdict == "allow":
            grant = Grant(answer.subject or "hook", (action,), answer.expires_unix)
            return Pass(grant, until_unix=answer.until_unix)
        if answer.verdict == "forbidden":
            raise Rejected("the authorisation hook refused that", code="auth.forbidden")
        code = "auth.invalid" if caller.token else "auth.missing"
        raise Rejected("the authorisation hook does not know this key", code=code)

    def _key(self, token: str) -> KeySettings | None:
        """The key of a token. All keys are compared, in constant time, once a token and worker."""
        if not token or not self._keys or len(token) > _TOKEN_CHARACTERS_MAX:
            return None
        known = self._known.get(token)
        if known is not None:
            return known
        digest = hashlib.sha256(token.encode()).digest()
        found: KeySettings | None = None
        for other, key in self._keys:
            if hmac.compare_digest(digest, other):
                found = key
        if found is not None:
            if len(self._known) >= _TOKENS_MAX:
                self._known.clear()
            self._known[token] = found
        return found


def bearer(authorization: str) -> str:
    """The token of an Authorization field, or empty. Raises: Rejected when it is another kind."""
    if not authorization:
        return ""
    match = _BEARER.fullmatch(authorization)
    if match is None:
        raise Rejected("Authorization is not 'Bearer' and a token", code="auth.invalid")
    return match[1]


def hls_token(fields: Fields, key_in_path: str) -> str:
    """The key of an HLS request: in the path, else the bearer token, else the cookie."""
    if key_in_path:
        return key_in_path
    if fields.authorization:
        return bearer(fields.authorization)
    if fields.cookie:
        match = _COOKIE.search(fields.cookie)
        if match is not None:
            return match[1]
    return ""


def host_of(authority: str) -> str:
    """The host of `host:port`, brackets kept."""
    if authority.startswith("["):
        return authority.partition("]")[0] + "]"
    return authority.partition(":")[0]


_OPEN: Final = Pass(Grant(OPEN_SUBJECT, ("publish", "read", "control")), shared=True)
_PUBLIC: Final = Pass(Grant(PUBLIC_SUBJECT, ("read",)), shared=True)


def _guard_open(fields: Fields) -> None:
    if fields.forwarded:
        raise Rejected(
            "this server has no keys and so serves its own machine alone, but the request was"
            " forwarded by a proxy: configure [[auth.keys]] or auth.hook_url",
            code="auth.forwarded",
        )
    if not is_loopback(host_of(fields.host)):
        raise Rejected(
            f"this server has no keys and so answers to localhost only, not to {fields.host!r}",
            code="auth.forbidden",
        )
    if fields.origin and not is_loopback(host_of(fields.origin.partition("://")[2])):
        raise Rejected(
            "this server has no keys and so takes no requests from other sites' pages",
            code="auth.forbidden",
        )


def _digest_of(key: KeySettings) -> bytes:
    if key.secret_sha256:
        return bytes.fromhex(key.secret_sha256)
    return hashlib.sha256(key.secret.encode()).digest()


def _question(caller: Caller, action: Action, stream: str) -> Question:
    query = "&".join(
        part for part in caller.query.split("&") if part and not part.startswith("_HLS_")
    )
    return Question(
        action=action,
        stream=stream,
        protocol=caller.protocol,
        token=caller.token,
        query=query,
        remote=caller.remote,
    )
