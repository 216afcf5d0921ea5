"""Commits have short subjects of the form `media: drop late retransmits once the frame is done`."""

import re
import shutil
import subprocess

from tests.tidy.tree import ROOT

SUBJECT = re.compile(r"[a-z][a-z0-9 /_,-]*: \S.*|Merge .*|Revert .*")
COMMITS = 60
OLDER_THAN_THE_RULE = {
    "native: SRTP vectors, the viewer's promises, a clock that survives being set",
    "tests: the probe reads the demo's flash, the drivers keep to their threads",
    "edge: settings, access, strict heads, problems, TLS and the link to media",
    "tests: camera to screen, foreign stacks, faults, joins and errors, end to end",
}


def test_recent_subjects() -> None:
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        return  # an unpacked archive has no history to judge
    log = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "log", f"-{COMMITS}", "--no-merges", "--format=%s"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    bad = [
        subject
        for subject in log.stdout.splitlines()
        if (len(subject) > 72 or not SUBJECT.fullmatch(subject))
        and subject not in OLDER_THAN_THE_RULE
    ]
    assert not bad
