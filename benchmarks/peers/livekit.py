"""LiveKit under the load generators: one room, a publisher and viewers over its WHIP.

LiveKit has no WHEP. Its `/whip/v1` answers with tracks to receive when the request names them in
the header X-LiveKit-ClientInfo; a published track is named by its kind. Every participant is a
token of its own, signed with a key that lives as long as the configuration does.
"""

import base64
import contextlib
import hashlib
import hmac
import json
import secrets
import socket
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.peers.program import running
from benchmarks.process import family
from benchmarks.server import free_port
from benchmarks.target import Door, Target

_CONFIGURATION: Final = """\
port: {port}
bind_addresses: [127.0.0.1]
rtc:
  udp_port: {udp_port}
  tcp_port: 0
  node_ip: 127.0.0.1
  use_external_ip: false
  enable_loopback_candidate: true
keys:
  {key}: {secret}
logging:
  level: error
"""
_KEY: Final = "bench"
_PUBLISHER: Final = "publisher"
_TRACKS: Final = ("synthesized-camera", "synthesized-microphone")
_TOKEN_SECONDS: Final = 3_600


@dataclass(frozen=True, slots=True)
class LiveKit:
    """A running LiveKit."""

    url: str
    pid: int
    secret: str
    who: str = "livekit"

    def publish(self, stream: str) -> Door:
        return self._door(stream, _PUBLISHER, publish=True)

    def play(self, stream: str, viewer: int) -> Door:
        door = self._door(stream, f"viewer{viewer}-{secrets.token_hex(4)}", publish=False)
        wanted = json.dumps({"subscribedParticipantTrackNames": {_PUBLISHER: list(_TRACKS)}})
        return Door(door.url, {**door.headers, "X-LiveKit-ClientInfo": wanted})

    def pids(self) -> list[int]:
        return family(self.pid)

    def media_pids(self) -> list[int]:
        return self.pids()

    def _door(self, room: str, identity: str, *, publish: bool) -> Door:
        rights = {"room": room, "roomJoin": True, "canPublish": publish, "canSubscribe": True}
        token = signed({"iss": _KEY, "sub": identity, "video": rights}, self.secret)
        return Door(f"{self.url}/whip/v1", {"Authorization": f"Bearer {token}"})


def signed(claims: dict[str, object], secret: str) -> str:
    """A JSON web token, HS256 (RFC 7515, RFC 7519), good for an hour from now."""
    now = int(time.time())
    head = {"alg": "HS256", "typ": "JWT"}
    body = {**claims, "nbf": now - 60, "exp": now + _TOKEN_SECONDS}
    text = b".".join(_encoded(json.dumps(part).encode()) for part in (head, body))
    mark = hmac.new(secret.encode(), text, hashlib.sha256).digest()
    return b".".join((text, _encoded(mark))).decode()


def _encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


@contextlib.asynccontextmanager
async def started(program: Path) -> AsyncIterator[Target]:
    """Raises LookupError when it does not start. **Owns** the process."""
    with tempfile.TemporaryDirectory(prefix="nexus-bench-") as scratch:
        port, udp_port = free_port(), free_port(socket.SOCK_DGRAM)
        secret = secrets.token_hex(24)
        configuration = Path(scratch) / "livekit.yaml"
        configuration.write_text(
            _CONFIGURATION.format(port=port, udp_port=udp_port, key=_KEY, secret=secret)
        )
        command = [str(program), "--config", str(configuration)]
        async with running(command, port, Path(scratch) / "log") as process:
            yield LiveKit(f"http://127.0.0.1:{port}", process.pid, secret)
