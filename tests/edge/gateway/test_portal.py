"""The description of all services, for programs and for people."""

import re

from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.fakes.small_gateway import SmallGateway


async def test_the_description_is_openapi(gateway: SmallGateway) -> None:
    said = await gateway.get("/openapi.json")
    assert said.headers["Content-Type"] == "application/json"
    document = said.json
    OpenAPIV31SpecValidator(document).validate()
    assert "/v1/stall/items/{id}" in document["paths"]
    again = await gateway.get("/openapi.json", headers={"If-None-Match": said.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")


async def test_events_are_told_as_asyncapi(gateway: SmallGateway) -> None:
    said = await gateway.get("/asyncapi.json")
    assert said.headers["Content-Type"] == "application/json"
    assert said.json["asyncapi"] == "3.0.0"
    again = await gateway.get("/asyncapi.json", headers={"If-None-Match": said.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")


async def test_the_page_needs_nothing_from_elsewhere(gateway: SmallGateway) -> None:
    said = await gateway.get("/docs")
    text = said.body.decode()
    assert said.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in said.headers["Content-Security-Policy"]
    for operation in ("/v1/stall/items/{id}", "/v1/stall/open", "One item."):
        assert operation in text
    assert "<script" not in text
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", text)
