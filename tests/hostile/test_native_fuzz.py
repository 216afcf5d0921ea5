"""The crate's own fuzz targets in their long form, and how much of each parser they reach.

`cargo test` runs the short form; this one builds it without optimisation, so that every line has
its own code, and runs 100,000 inputs a parser (`make prove`).
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.end_to_end.figures import say
from tests.hostile.native_lines import reached

ROOT = Path(__file__).resolve().parents[2]
INPUTS = 100_000
SHARE_MIN = 0.85
PARSERS = {
    "stun": ("stun.rs",),
    "dtls": ("dtls.rs",),
    "srtp": ("srtp.rs", "srtp/window.rs"),
    "rtp": (
        "source.rs",
        "source/header.rs",
        "source/medium.rs",
        "source/ssrc.rs",
        "source/transport.rs",
        "stream.rs",
    ),
    "rtcp": ("rtcp.rs", "rtcp/feedback.rs", "clock.rs", "viewer.rs", "viewer/resends.rs"),
    "sdp": (
        "sdp.rs",
        "sdp/answer.rs",
        "sdp/formats.rs",
        "sdp/h264.rs",
        "sdp/parse.rs",
        "sdp/text.rs",
        "sdp/transport.rs",
    ),
    "payloads": ("tap.rs", "tap/h264.rs", "tap/order.rs", "keyframe.rs"),
    "records": ("wire.rs", "packet.rs"),
}


def _built() -> Path:
    """The fuzz program, one statement a line and nothing left out."""
    words = [
        "scripts/with-rust-cache", "cargo", "rustc", "-q", "--locked", "--no-default-features",
        "--manifest-path=media/native/Cargo.toml", "--test=fuzz",
        "--config=profile.dev.package.nexus-native.opt-level=0",
        "--message-format=json", "--", "-Clink-dead-code",
    ]  # fmt: skip
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    told = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    return Path(next(row["executable"] for row in told if row.get("executable")))


@pytest.mark.prove
def test_every_parser_of_the_plane_under_mutated_sessions(seed: int) -> None:
    environment = {
        **os.environ,
        "NEXUS_FUZZ_INPUTS": str(INPUTS),
        "NEXUS_FUZZ_SEED": str(seed),
    }
    status, counts, missed = reached(
        _built(), ["--test-threads=1"], environment, crate="media/native"
    )
    assert status == 0, "a campaign failed: its input is printed above"
    for parser, files in PARSERS.items():
        got = sum(counts[f"src/{file}"][0] for file in files)
        lines = sum(counts[f"src/{file}"][1] for file in files)
        say(f"fuzz {parser}", inputs=INPUTS, lines=lines, reached_percent=100 * got / lines)
        left = {file: missed.get(f"src/{file}", []) for file in files}
        assert got >= SHARE_MIN * lines, left
