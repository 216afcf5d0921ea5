"""`make check`: every static check and the unit tests, in parallel lanes, ending in one line.

A check prints nothing unless it fails; lanes of tests tell how many there were. `make test` runs
the parts one after the other: `--static --rust-tests`, `--unit`, then pytest with what `--others`
names, alone on the machine.
"""

import argparse
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv/bin"
CARGO = ("scripts/with-rust-cache", "cargo")
MANIFEST = "--manifest-path=media/native/Cargo.toml"
NOT_UNIT_TESTS = (
    # Whole nodes, foreign servers and browsers, load, processes that are killed.
    "benchmarks/test_gateway_load.py",
    "benchmarks/test_hls_load.py",
    "benchmarks/test_webrtc_load.py",
    "cdn",
    "edge/regions/test_two_nodes.py",
    "edge/test_background.py",
    "edge/test_family.py",
    "edge/test_state_role.py",
    "end_to_end",
    "hostile",
    "hostile_http",
    "image",
    "media/hls/test_restart.py",
    "operations",
    "ops/state",
    "services/_jobs/test_away.py",
    "services/_jobs/test_kills.py",
    "services/bus",
    "services/test_every_service.py",
    "services/test_many_services.py",
    "services/test_new_service.py",
    "soak",
    "web",
    # Real time.
    "edge/demo",
    "edge/gateway/test_shared_limits.py",
    "media/hls/test_conformance.py",
    "media/test_native_aiortc.py",
    "media/test_native_faults.py",
    "media/test_native_swarm.py",
    "services/_jobs/test_runner.py",
)
"""What `make test` runs and `make check` does not: `--others`."""
LANES = ("media", "edge", "edge/gateway", "services")
"""Folders of tests that run beside each other, and beside all other folders."""


@dataclass(frozen=True, slots=True)
class Check:
    """One command that must succeed."""

    name: str
    command: tuple[str, ...]
    folder: str = "."
    seconds_max: int = 900
    tells: bool = False
    """Whether the last line of its output is shown although it succeeded."""


def python_checks() -> list[Check]:
    """Style, types and import contracts of the Python code."""
    return [
        Check("ruff", (f"{BIN}/ruff", "check", "-q", ".")),
        Check("ruff format", (f"{BIN}/ruff", "format", "-q", "--check", ".")),
        Check("import-linter", (f"{BIN}/lint-imports",)),
        Check("hadolint", (f"{BIN}/hadolint", "Dockerfile")),
        Check("mypy", (f"{BIN}/mypy",)),
        Check("mypy of the scripts", (f"{BIN}/mypy", "--strict", "scripts/check.py")),
    ]


def unit_tests() -> list[list[Check]]:
    """All tests that need neither a browser nor a whole node: a lane for each of LANES, and one.

    They wait more than they compute, and each lane has a network of its own.
    """
    pytest = ("scripts/in-network", f"{BIN}/python", "-m", "pytest", "-q", "-m", "not prove")
    gone = [name for name in (*NOT_UNIT_TESTS, *LANES) if not (ROOT / "tests" / name).exists()]
    assert not gone, f"no longer there: {gone}"
    commands = {name: (*pytest, *_left_out(name), f"tests/{name}") for name in (*LANES, "")}
    return [
        [Check(f"unit tests: {name or 'the rest'}", command, tells=True)]
        for name, command in commands.items()
    ]


def _left_out(lane: str) -> list[str]:
    """What is no unit test, and what has a lane of its own."""
    inner = [name for name in LANES if name != lane and f"{name}/".startswith(lane)]
    return [f"--ignore=tests/{name}" for name in (*NOT_UNIT_TESTS, *inner)]


def rust_checks(*, tests: bool) -> list[Check]:
    """Format and lints of the crate, with and without Python; its own tests when asked for."""
    clippy = ("clippy", "-q", MANIFEST, "--locked", "--all-targets")
    denied = ("--", "-D", "warnings", "-D", "clippy::too_many_lines")
    checks = [
        Check("cargo fmt", ("cargo", "fmt", MANIFEST, "--check")),
        Check("clippy", (*CARGO, *clippy, *denied)),
        Check("clippy, no Python", (*CARGO, *clippy, "--no-default-features", *denied)),
    ]
    if tests:
        command = (*CARGO, "test", "-q", MANIFEST, "--locked", "--no-default-features")
        checks.append(Check("cargo test", command))
    return checks


def web_checks() -> list[Check]:
    """Lints, types and unit tests of the pages."""
    npm = ("npm", "run", "--silent")
    return [
        Check("pages: lint", (*npm, "lint"), "web"),
        Check("pages: types", ("node_modules/.bin/tsc", "--noEmit"), "web"),
        Check("pages: tests", (*npm, "test"), "web"),
    ]


def passes(check: Check) -> bool:
    """Runs the check; says how long it took, and what it printed when it failed."""
    start = time.monotonic()
    try:
        done = subprocess.run(
            check.command,
            cwd=ROOT / check.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=check.seconds_max,
            check=False,
        )
        ok, output = done.returncode == 0, done.stdout
    except subprocess.TimeoutExpired as expired:
        ok, output = False, f"no end after {expired.timeout:.0f} s"
    seconds = time.monotonic() - start
    line = f"  {'ok    ' if ok else 'FAILED'} {check.name} ({seconds:.1f} s)\n"
    if ok and check.tells:
        line += f"         {output.rstrip().rpartition(chr(10))[2]}\n"
    sys.stdout.write(line if ok else f"{line}$ {' '.join(check.command)}\n{output.rstrip()}\n")
    sys.stdout.flush()
    return ok


def failures(lane: list[Check]) -> list[str]:
    """Runs one lane in order; the names of the checks that failed."""
    return [check.name for check in lane if not passes(check)]


def main() -> int:
    """Exit status: 0 when every check passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--static", action="store_true", help="leave the Python tests out")
    parser.add_argument("--unit", action="store_true", help="run the unit tests alone")
    parser.add_argument(
        "--others", action="store_true", help="name the tests that are no unit tests"
    )
    parser.add_argument("--rust-tests", action="store_true", help="run the crate's tests as well")
    chosen = parser.parse_args()
    if chosen.others:
        sys.stdout.write("".join(f"tests/{name}\n" for name in NOT_UNIT_TESTS))
        return 0
    start = time.monotonic()
    static = [
        [*python_checks(), *web_checks()],
        rust_checks(tests=chosen.rust_tests),
    ]
    lanes = static if chosen.static else unit_tests()
    if not (chosen.static or chosen.unit):
        lanes.append(static[0] + static[1])
    with ThreadPoolExecutor(len(lanes)) as pool:
        failed = [name for names in pool.map(failures, lanes) for name in names]
    seconds = round(time.monotonic() - start)
    if failed:
        sys.stdout.write(f"check: failed in {seconds} s: {', '.join(failed)}\n")
        return 1
    sys.stdout.write(f"check: ok in {seconds} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
