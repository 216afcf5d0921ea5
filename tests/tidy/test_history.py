"""Commits have short subjects of the form `media: drop late retransmits once the frame is done`."""

import re
import shutil
import subprocess

from tests.tidy.tree import ROOT

SUBJECT = re.compile(r"[a-z][a-z0-9 /_,-]*: \S.*|Merge .*|Revert .*")
COMMITS = 60
SINCE = "2026-11-24T00:00:00Z"  # the rule came with the house, and its builders learnt it late


def test_recent_subjects() -> None:
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        return  # an unpacked archive has no history to judge
    log = subprocess.run(
        [
            *("git", "-c", f"safe.directory={ROOT}", "log", f"-{COMMITS}", "--no-merges"),
            *("--format=%s", f"--since={SINCE}"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    bad = [
        subject
        for subject in log.stdout.splitlines()
        if len(subject) > 72 or not SUBJECT.fullmatch(subject)
    ]
    assert not bad
