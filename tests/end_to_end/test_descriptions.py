"""Redocly's rules find nothing in what describes us: OpenAPI of both sides, AsyncAPI.

Its warnings count as faults. AsyncAPI's own rules are `test_asyncapi.py`'s.
"""

import asyncio
import json
import subprocess
from typing import Any

import pytest

from edge.openapi import document as edge_document
from edge.service_openapi import openapi
from services._events.asyncapi import document as asyncapi
from services._kit.load import load_all
from services._kit.operation import operations
from tests.end_to_end.publishers import NODE
from tests.services.events.test_asyncapi import SERVICES
from tests.tidy.tree import ROOT


def described(what: str) -> dict[str, Any]:
    """One of the documents, as it is served."""
    services = load_all()
    match what:
        case "services":
            made: Any = openapi(operations(services), version="1")
        case "media":
            made = json.loads(edge_document())
        case "media, in the documents":
            made = json.loads((ROOT / "docs/openapi.json").read_text())
        case "events":
            made = asyncapi([*SERVICES, *services], version="1.0.0")
        case _:
            made = asyncapi(services, region="eu1", version="1.0.0")
    return dict(made)


async def findings(document: dict[str, Any]) -> list[dict[str, Any]]:
    """What the linter says."""
    done = await asyncio.to_thread(
        subprocess.run,
        ["node", "lint.mjs"],
        cwd=NODE, input=json.dumps(document), capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    "what", ["services", "media", "media, in the documents", "events", "events of a region"]
)
async def test_the_linter_finds_nothing(what: str) -> None:
    assert await findings(described(what)) == []


async def test_a_fault_would_be_found() -> None:
    made = described("services")
    path = next(iter(made["paths"].values()))
    del next(iter(path.values()))["description"]
    assert [one["code"] for one in await findings(made)] == ["operation-description"]
    made = described("events")
    made["channels"].popitem()
    assert await findings(made)
