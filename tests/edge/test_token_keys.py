"""`nexus token`: what it mints, the node's gateway takes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ops.clock import SYSTEM
from ops.tokens import Verifier, load_keys


def nexus(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NEXUS_TOKENS_KEY_FILE": str(tmp_path / "keys.json")}
    return subprocess.run(
        [sys.executable, "-m", "edge.main", "token", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )


def test_a_token_is_minted_with_the_nodes_keys(tmp_path: Path) -> None:
    made = nexus(tmp_path, "--tenant", "acme", "--subject", "ada", "--permissions", "a.b.c,shop.*")
    assert made.returncode == 0, made.stderr
    verifier = Verifier(load_keys(tmp_path / "keys.json"), issuer="nexus", known_max=16)
    said = verifier.verify(made.stdout.strip(), now=SYSTEM.unix())
    assert (said.subject, said.tenant) == ("ada", "acme")
    assert said.permissions == {"a.b.c", "shop.*"}
    assert 3_500 < said.expires_unix - SYSTEM.unix() <= 3_600


@pytest.mark.parametrize("arguments", [(), ("--tenant", ""), ("--tenant", "a", "--seconds", "0")])
def test_what_is_no_token_is_refused(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    made = nexus(tmp_path, *arguments)
    assert made.returncode == 2
    assert not made.stdout
