"""What holds for every text file: size, nothing half-done, no machine, registry or secret in it."""

import re

import pytest

from tests.tidy.rules import file_length, line_length
from tests.tidy.tree import ROOT, Fault, Source, fail_with, sources

CODE = (".py", ".pyi", ".rs", ".ts", ".js", ".mjs", ".css", ".html", ".sh")
HERE = "tests/tidy/"
TEST_FOLDERS = {
    "benchmarks",
    "cdn",
    "conformance",
    "edge",
    "end_to_end",
    "fakes",
    "hostile",
    "hostile_http",
    "image",
    "media",
    "operations",
    "ops",
    "prove",
    "realtime",
    "services",
    "soak",
    "tidy",
    "web",
}

HALF_DONE = re.compile(
    r"\b(TODO|FIXME|XXX|HACK)\b|NotImplementedError|\b(todo|unimplemented|dbg)!\("
    r"|pytest\.(skip|xfail|importorskip)\b|mark\.(skip|skipif|xfail)\b|\bbreakpoint\(\)"
    r"|^\s*debugger;|\b(describe|it|test)\.(skip|only|todo)\b|#\[ignore"
)
MACHINE_PATH = re.compile(r"(^|[^A-Za-z0-9_.$}])/(work|farm|root|home/[a-z]+)/")
REGISTRY = re.compile(
    r"https?://[a-z0-9.-]*(registry|hosted|goproxy|maven|pypi|pythonhosted|crates|npmjs)[a-z0-9.-]*"
)
SECRET = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}\b"
    r"|\bxox[abprs]-[0-9A-Za-z-]{10,}|\beyJ[A-Za-z0-9_-]{20,}\.eyJ[A-Za-z0-9_-]{20,}\."
)


def matches(pattern: re.Pattern[str], source: Source) -> list[tuple[str, Fault]]:
    """A fault for each line that the pattern is found in."""
    return [
        (source.path, Fault(number, found.group(0).strip()))
        for number, line in enumerate(source.lines, 1)
        if (found := pattern.search(line))
    ]


def test_files_are_short_enough_to_be_designed() -> None:
    code = [source for source in sources() if source.path.endswith((".py", ".pyi", ".rs", ".ts"))]
    fail_with((source.path, fault) for source in code for fault in file_length(source))


def test_rust_lines_fit() -> None:
    rust = [source for source in sources() if source.path.endswith(".rs")]
    fail_with((source.path, fault) for source in rust for fault in line_length(source))


def test_nothing_is_half_done_or_skipped() -> None:
    code = [s for s in sources() if s.path.endswith(CODE) and not s.path.startswith(HERE)]
    fail_with(fault for source in code for fault in matches(HALF_DONE, source))


@pytest.mark.parametrize(
    "pattern", [MACHINE_PATH, REGISTRY, SECRET], ids=["path", "host", "secret"]
)
def test_no_file_names_a_machine_a_registry_or_a_secret(pattern: re.Pattern[str]) -> None:
    read = [s for s in sources() if not s.path.startswith(HERE) and s.name != "Cargo.lock"]
    fail_with(fault for source in read for fault in matches(pattern, source))


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (HALF_DONE, "@pytest.mark.skip"),
        (HALF_DONE, "todo!()"),
        (MACHINE_PATH, "open('/root/x')"),
        (REGISTRY, "https://files.pythonHOST.org/x".replace("HOST", "hosted")),
        (SECRET, "-----BEGIN EC PRIVATE KEY-----"),
    ],
)
def test_patterns_catch(pattern: re.Pattern[str], text: str) -> None:
    assert matches(pattern, Source("a.py", text))


def test_tests_mirror_the_tree() -> None:
    faults = []
    for source in sources():
        parts = source.path.split("/")
        if parts[0] != "tests" or len(parts) < 3:
            continue
        if parts[1] not in TEST_FOLDERS:
            faults.append((source.path, Fault(1, f"tests/{parts[1]} mirrors nothing")))
        mirrored = "/".join(parts[1:-1])
        if parts[1] in {"edge", "media", "ops", "realtime", "services"} and source.name.startswith(
            "test_"
        ):
            file = ROOT / mirrored
            # Services by their names, whatever their domain; kernels without the underscore.
            name = parts[2] if parts[1] == "services" else ""
            service = [*ROOT.glob(f"services/*/{name}"), *ROOT.glob(f"services/_{name}")]
            if name and service:
                continue
            if not file.is_dir() and not file.with_suffix(".py").is_file():
                faults.append((source.path, Fault(1, f"there is no {mirrored}")))
    fail_with(faults)
