"""Signed play links: HLS for one stream until one moment, checked without asking anybody.

    /hls/_{secret's name}-{unix seconds}-{signature}/{stream}/…

Relative URIs in playlists inherit it, so playlists are the same bytes for every viewer. A key in
the path is told apart by its first character: `~` begins a key, `_` a link, neither begins a
stream's name. The signature is what stock nginx can check (ngx_http_secure_link_module):

    base64url(MD5("{secret} {unix seconds} {stream} {secret}")), 22 characters, no padding

MD5 is broken for collisions, so nothing here rests on them: without the secret in front nobody can
compute a state to collide in, and with the secret last nothing can be appended. The 4 idle bits of
the last character are zero; other spellings of the same 16 bytes are refused.

The names of secrets make rotation possible: the first secret signs, all of them are accepted. There
is no list of links: one ends when its time is over, or with its secret.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ops.errors import Rejected
from ops.settings import setting

LINK: Final = r"[A-Za-z0-9._~-]{1,256}"
"""What may stand between the underscore and the stream's name; most of it is then refused."""
_QUOTED_MAX: Final = 32
"""Most characters of a refused link that are shown again."""
_SECRET: Final = re.compile(r"[A-Za-z0-9_-]{32,128}", re.ASCII)
_NAME: Final = re.compile(r"[a-z0-9]{1,16}", re.ASCII)
_MOMENT: Final = re.compile(r"[1-9][0-9]{0,11}", re.ASCII)


@dataclass(frozen=True, slots=True)
class LinkSecret:
    """One secret that play links are signed with."""

    name: str
    """1 to 16 lower-case letters and digits; it stands in every link."""
    secret: str = setting("", "32 to 128 letters, digits, _ and -.", secret=True)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError("name: 1 to 16 lower-case letters and digits")
        if not _SECRET.fullmatch(self.secret):
            raise ValueError("secret: 32 to 128 letters, digits, _ and -")


class PlayLinks:
    """Makes and checks links. Pure but for the clock, unix seconds."""

    def __init__(self, secrets: Sequence[LinkSecret], *, clock: Callable[[], float]) -> None:
        self._secrets = {secret.name: secret.secret for secret in secrets}
        self._signer = secrets[0] if secrets else None
        self._clock = clock

    def make(self, stream: str, *, until_unix: int) -> str:
        """The path of a stream's multivariant playlist. Raises: Rejected (`link.disabled`)."""
        if self._signer is None:
            raise Rejected(
                "play links need a secret: configure [[auth.link_secrets]]", code="link.disabled"
            )
        signature = _sign(self._signer.secret, until_unix, stream)
        return f"/hls/_{self._signer.name}-{until_unix}-{signature}/{stream}/index.m3u8"

    def check(self, link: str, *, stream: str) -> int:
        """Until when (unix seconds) a link opens a stream.

        Raises: Rejected `link.invalid` (not signed like this by us, or for another stream),
        `link.expired`.
        """
        name, _, rest = link.partition("-")
        moment, _, signature = rest.partition("-")
        secret = self._secrets.get(name)
        if secret is None:
            raise Rejected(
                f"this link was signed with the secret {name[:_QUOTED_MAX]!r}, which is not (or no"
                " longer) known",
                code="link.invalid",
            )
        if not _MOMENT.fullmatch(moment):
            raise Rejected("this link's end is not a time", code="link.invalid")
        until_unix = int(moment)
        if not hmac.compare_digest(signature.encode(), _sign(secret, until_unix, stream).encode()):
            raise Rejected(
                "this link's signature does not belong to this stream and time", code="link.invalid"
            )
        if until_unix < int(self._clock()):
            raise Rejected("this link has expired: ask for a new one", code="link.expired")
        return until_unix


def _sign(secret: str, until_unix: int, stream: str) -> str:
    text = f"{secret} {until_unix} {stream} {secret}".encode()
    digest = hashlib.md5(text, usedforsecurity=False).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
