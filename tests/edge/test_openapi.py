"""The API's description is sound, complete, and equal to the page in the documents."""

import json
from pathlib import Path

import aiohttp
from openapi_spec_validator import OpenAPIV31SpecValidator

from edge.openapi import document
from tests.edge.conftest import Running

PAGE = Path(__file__).parents[2] / "docs" / "openapi.json"


def test_the_page_in_the_documents_is_the_present_one() -> None:
    assert PAGE.read_bytes() == document(), "run: python -m edge.openapi > docs/openapi.json"


def test_it_is_sound_openapi() -> None:
    OpenAPIV31SpecValidator(json.loads(document())).validate()


def test_it_describes_every_url_of_the_architecture() -> None:
    paths = json.loads(document())["paths"]
    for path, methods in {
        "/whip/{stream}": {"get", "head", "options", "post"},
        "/whip/{stream}/{session}": {"get", "head", "options", "patch", "delete"},
        "/whep/{stream}": {"get", "head", "options", "post"},
        "/hls/{stream}/index.m3u8": {"get"},
        "/hls/{stream}/{rendition}/live.m3u8": {"get"},
        "/api/v1/streams": {"get"},
        "/api/v1/streams/{stream}": {"get", "delete"},
        "/api/v1/streams/{stream}/keyframe": {"post"},
        "/api/v1/sessions": {"get"},
        "/api/v1/sessions/{session}": {"get", "delete"},
        "/api/events": {"get"},
        "/metrics": {"get"},
        "/livez": {"get"},
        "/readyz": {"get"},
    }.items():
        assert set(paths[path]) == methods, path


async def test_it_is_served(running: Running) -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{running.url}/api/openapi.json") as reply,
    ):
        assert reply.content_type == "application/json"
        assert await reply.read() == document()
