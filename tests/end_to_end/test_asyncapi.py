"""AsyncAPI's own parser and its rules find nothing to say against the document of our events."""

import asyncio
import json
import subprocess
from typing import Any

import pytest

from services._events.asyncapi import document
from services._kit.load import load_all
from tests.end_to_end.publishers import NODE
from tests.services.events.test_asyncapi import SERVICES

OLDER = {"asyncapi-latest-version"}
"""Told of every document that is not of the newest minor version, which fewer tools read."""


async def findings(text: str) -> list[dict[str, Any]]:
    """What the parser says."""
    done = await asyncio.to_thread(
        subprocess.run,
        ["node", "asyncapi.mjs"],
        cwd=NODE, input=text, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return [one for one in found if one["code"] not in OLDER]


@pytest.mark.parametrize("region", ["eu1", ""])
async def test_the_document_is_clean(region: str) -> None:
    made = document([*SERVICES, *load_all()], region=region, version="1.0.0")
    assert made["channels"]
    assert await findings(json.dumps(made)) == []


async def test_a_fault_would_be_found() -> None:
    made = document(SERVICES, region="eu1", version="1.0.0")
    del made["channels"]["test.thing"]
    assert await findings(json.dumps(made))
