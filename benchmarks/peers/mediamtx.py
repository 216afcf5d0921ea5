"""MediaMTX under the load generators: WebRTC alone, on loopback, nothing else switched on."""

import contextlib
import socket
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.program import running
from benchmarks.process import family
from benchmarks.server import free_port
from benchmarks.target import Door, Target

_CONFIGURATION = """\
logLevel: error
rtsp: no
rtmp: no
hls: no
srt: no
moq: no
webrtc: yes
webrtcAddress: 127.0.0.1:{port}
webrtcLocalUDPAddress: 127.0.0.1:{udp_port}
webrtcIPsFromInterfaces: no
webrtcAdditionalHosts: [127.0.0.1]
paths:
  all_others:
"""


@dataclass(frozen=True, slots=True)
class MediaMtx:
    """A running MediaMTX."""

    url: str
    pid: int
    who: str = "mediamtx"

    def publish(self, stream: str) -> Door:
        return Door(f"{self.url}/{stream}/whip")

    def play(self, stream: str, viewer: int) -> Door:
        del viewer
        return Door(f"{self.url}/{stream}/whep")

    def pids(self) -> list[int]:
        return family(self.pid)

    def media_pids(self) -> list[int]:
        return self.pids()


@contextlib.asynccontextmanager
async def started(program: Path) -> AsyncIterator[Target]:
    """Raises LookupError when it does not start. **Owns** the process."""
    with tempfile.TemporaryDirectory(prefix="nexus-bench-") as scratch:
        port, udp_port = free_port(), free_port(socket.SOCK_DGRAM)
        configuration = Path(scratch) / "mediamtx.yml"
        configuration.write_text(_CONFIGURATION.format(port=port, udp_port=udp_port))
        command = [str(program), str(configuration)]
        async with running(command, port, Path(scratch) / "log") as process:
            yield MediaMtx(f"http://127.0.0.1:{port}", process.pid)
