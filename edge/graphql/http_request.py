"""GraphQL over HTTP: what a request asks for, and in which media type the answer goes.

The draft of the GraphQL Foundation (graphql-over-http): POST with application/json, GET for
queries. A body of another type is refused (415), so that no form of another site can make a
browser send one without asking first. Lists of requests (batches) are refused: HTTP carries many
requests at once by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from edge.graphql.refused import Refused
from services._kit.decode import check_json
from services._kit.errors import Malformed

RESPONSE_TYPE: Final = "application/graphql-response+json"
JSON_TYPE: Final = "application/json"
LARGE_BYTES: Final = 16_384
"""Requests above this are read in a thread."""
_SHA256_CHARACTERS: Final = 64
_CHARSETS: Final = ("", "utf-8", "utf8")
_PARAMETERS: Final = ("query", "operationName", "variables", "extensions")


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request asks for."""

    query: str | None
    operation: str | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    sha256: str | None = None
    """Of a persisted query."""
    size_bytes: int = 0
    """Of the JSON that it came in."""

    @property
    def is_large(self) -> bool:
        """Whether reading it would hold the event loop up."""
        return self.size_bytes > LARGE_BYTES


def from_body(content_type: str, body: bytes) -> Ask:
    """What a POST asks for. Raises Refused."""
    media_type, _, parameters = content_type.partition(";")
    charset = _parameter(parameters, "charset").lower()
    if media_type.strip().lower() != JSON_TYPE or charset not in _CHARSETS:
        raise Refused(
            f"the body's Content-Type is not {JSON_TYPE} in UTF-8",
            code="request.media_type",
            status=415,
            always=True,
            headers={"Accept-Post": JSON_TYPE},
        )
    return _ask(_json(body), len(body))


def from_query(values: Mapping[str, str]) -> Ask:
    """What the query string of a GET asks for; variables and extensions are JSON in it.

    Raises Refused.
    """
    found: dict[str, Any] = {name: values[name] for name in _PARAMETERS if values.get(name)}
    for name in ("variables", "extensions"):
        if name in found:
            found[name] = _json(found[name].encode())
    return _ask(found, sum(map(len, values.values())))


def response_type(accept: str) -> str:
    """The media type of the answer; application/json where both are as good. Raises Refused.

    accept: the field's values, joined by commas.
    """
    best, chosen = 0.0, ""
    ranges = [_range(part) for part in accept.split(",") if part.strip()] or [("*/*", 1.0)]
    for offered in (JSON_TYPE, RESPONSE_TYPE):
        fitting = [item for item in ranges if _fits(item[0], offered)]
        weight = max(fitting, key=lambda item: _precision(item[0]))[1] if fitting else 0.0
        if weight > best:
            best, chosen = weight, offered
    if not chosen:
        raise Refused(
            f"the answer is {RESPONSE_TYPE} or {JSON_TYPE}",
            code="http.not_acceptable",
            status=406,
            always=True,
        )
    return chosen


def _ask(values: Any, size_bytes: int) -> Ask:
    if not isinstance(values, dict):
        raise _bad("the request is not one JSON object; batches are not served")
    query, operation = values.get("query"), values.get("operationName")
    variables, extensions = values.get("variables"), values.get("extensions")
    if query is not None and not isinstance(query, str):
        raise _bad("`query` is not a text")
    if operation is not None and not isinstance(operation, str):
        raise _bad("`operationName` is not a text")
    if variables is not None and not isinstance(variables, dict):
        raise _bad("`variables` is not an object")
    if extensions is not None and not isinstance(extensions, dict):
        raise _bad("`extensions` is not an object")
    sha256 = _persisted(extensions or {})
    if not query and sha256 is None:
        raise _bad("`query` is missing")
    return Ask(query or None, operation, variables or {}, sha256, size_bytes)


def _persisted(extensions: Mapping[str, Any]) -> str | None:
    named = extensions.get("persistedQuery")
    if named is None:
        return None
    sha256 = named.get("sha256Hash") if isinstance(named, dict) else None
    if not isinstance(sha256, str) or len(sha256) != _SHA256_CHARACTERS:
        raise _bad("`extensions.persistedQuery.sha256Hash` is not a SHA-256 in hexadecimal")
    if named.get("version") != 1:
        raise Refused("PersistedQueryNotSupported", code="PERSISTED_QUERY_NOT_SUPPORTED")
    return sha256.lower()


def _json(text: bytes) -> Any:
    try:
        check_json(text)
        return msgspec.json.decode(text)
    except Malformed as fault:
        raise _bad(fault.message) from None
    except msgspec.DecodeError as fault:
        raise _bad(f"this is not JSON: {fault}") from None


def _bad(message: str) -> Refused:
    return Refused(message, code="graphql.request", always=True)


def _parameter(text: str, name: str) -> str:
    for part in text.split(";"):
        key, _, value = part.partition("=")
        if key.strip().lower() == name:
            return value.strip().strip('"')
    return ""


def _range(part: str) -> tuple[str, float]:
    media_type, _, parameters = part.partition(";")
    weight = _parameter(parameters, "q") or "1"
    try:
        return media_type.strip().lower(), min(max(float(weight), 0.0), 1.0)
    except ValueError:
        return media_type.strip().lower(), 0.0


def _fits(wanted: str, offered: str) -> bool:
    return wanted in ("*/*", "application/*", offered)


def _precision(wanted: str) -> int:
    return 0 if wanted == "*/*" else 1 if wanted.endswith("/*") else 2
