"""Foreign senders and players as the tests start them: ffmpeg's whip muxer, werift in Node."""

import subprocess
from pathlib import Path
from typing import Self

import imageio_ffmpeg

NODE = Path(__file__).parent / "node"
FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()


class Command:
    """A foreign program that runs until left."""

    def __init__(self, words: list[str], log: Path, *, cwd: Path | None = None) -> None:
        self.words, self.log_path, self.cwd = words, log, cwd
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                self.words,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=self.cwd,
            )
        return self

    def running(self) -> bool:
        assert self.process is not None
        return self.process.poll() is None

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")[-12000:]

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def __exit__(self, *_: object) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()


def ffmpeg_whip(
    url: str, log: Path, *, size: str = "640x360", gop: int = 30, key: str = ""
) -> Command:
    """A test card and a tone, H.264 baseline and Opus, by FFmpeg 9's `whip` muxer."""
    words = [
        FFMPEG, "-hide_banner", "-loglevel", "info", "-re",
        "-f", "lavfi", "-i", f"testsrc2=size={size}:rate=30",
        "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000",
        "-c:v", "libx264", "-profile:v", "baseline", "-preset", "ultrafast", "-tune", "zerolatency",
        "-pix_fmt", "yuv420p", "-b:v", "1000k", "-g", str(gop), "-keyint_min", str(gop), "-bf", "0",
        "-c:a", "libopus", "-ar", "48000", "-ac", "2", "-b:a", "96k",
        "-f", "whip",
    ]  # fmt: skip
    if key:
        words += ["-authorization", key]
    return Command([*words, url], log)


def werift(role: str, url: str, log: Path, *more: str) -> Command:
    """`play` (writes what it received as Annex B to a file) or `publish` (RTP from a UDP port)."""
    return Command(["node", str(NODE / f"{role}.mjs"), url, *more], log, cwd=NODE)
