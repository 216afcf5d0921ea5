"""OpenAPI 3.1 of the services, made of the same structs that validate.

It says of each operation what its path, query and headers take, what its body is, what it answers
and which problems it can end in. Foreign protocols are named, not described: their own documents
do that. AsyncAPI of the events is `services/_events/asyncapi.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from services._kit import idempotency, versions
from services._kit.errors import Problem
from services._kit.operation import Operation
from services._kit.record import WHOLE, Paging
from services._kit.service import Route

_REF: Final = "#/components/schemas/{name}"
_PROBLEMS: Final = {
    "400": "The request cannot be read.",
    "401": "Somebody must be signed in.",
    "403": "The caller lacks a permission.",
    "404": "There is no such object in this tenant.",
    "405": "The path takes other methods; Allow names them.",
    "409": "The object's state does not allow it, or the same request is running.",
    "412": "The object has another version than If-Match names.",
    "413": "The body is too large.",
    "414": "Path and query are too long.",
    "415": "The body has another media type.",
    "421": "The tenant lives in another region, which is named.",
    "422": "A field or parameter is wrong; `errors` say where.",
    "425": "What the request refers to cannot be read yet; Retry-After says when to ask again.",
    "428": "If-Match is missing.",
    "429": "The caller's limit is used up; Retry-After says for how long.",
    "503": "Something this needs is away; Retry-After says for how long.",
    "504": "It took longer than the route, or `Prefer: wait`, allows.",
}
_CALLERS: Final = {
    "public": "Anybody may ask.",
    "signed_in": "Whoever is signed in may ask.",
}
_EVENTS: Final = {
    "type": "string",
    "description": "The list as it is and as it changes (WHATWG HTML, server-sent events): event"
    " `page` with what JSON would answer, then `created`, `updated` and `removed` with one item,"
    " `kept` with the keys of all that are left, `end` with the reason.",
}


class ProblemDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A problem (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    instance: str | None = None
    trace_id: str | None = None
    errors: tuple[Problem, ...] = ()


def openapi(operations: Sequence[Operation], *, version: str) -> dict[str, Any]:
    """The whole document."""
    made, shapes = msgspec.json.schema_components(
        [ProblemDocument, *_types(operations)], ref_template=_REF
    )
    schema, components = _plain(made), _plain(shapes)
    shown = iter(schema[1:])
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        described = _operation(operation, shown, components)
        paths.setdefault(operation.path, {})[operation.route.method.lower()] = described
    services = {operation.service.name: operation.service for operation in operations}
    used = _references(paths)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Nexus COS services",
            "version": version,
            "description": "Business services of Nexus COS. Every answer that is not a success is"
            " a problem document (RFC 9457).",
            "contact": {"name": "Who runs this server"},
            "license": {"name": "Proprietary", "identifier": "LicenseRef-Proprietary"},
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": service.name, "description": service.summary} for service in services.values()
        ],
        "paths": paths,
        "components": {
            "schemas": _used(components, by=paths),
            "responses": {
                status: {
                    "description": text,
                    "content": {
                        "application/problem+json": {
                            "schema": {"$ref": "#/components/schemas/ProblemDocument"}
                        }
                    },
                }
                for status, text in _PROBLEMS.items()
                if f"#/components/responses/{status}" in used
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
            },
        },
    }


def _types(operations: Iterable[Operation]) -> list[Any]:
    """Every type that operations mention, in the order in which `_operation` asks for them."""
    found: list[Any] = []
    for operation in operations:
        found.extend(kind for _, kind in operation.parameters)
        if operation.paged:
            found.append(Paging)
        if operation.query is not None:
            found.append(operation.query)
        if operation.body is not None:
            found.append(operation.body)
        if _answers(operation):
            found.append(operation.result)
    return found


def _answers(operation: Operation) -> bool:
    return operation.result is not type(None) and not operation.route.wire


def _operation(operation: Operation, schemas: Any, components: Mapping[str, Any]) -> dict[str, Any]:
    route = operation.route
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": next(schemas)}
        for name, _ in operation.parameters
    ]
    if operation.paged:
        parameters.extend(_query_parameters(next(schemas), components))
    if operation.query is not None:
        parameters.extend(_query_parameters(next(schemas), components))
    described: dict[str, Any] = {
        "operationId": operation.name.replace("-", "_").replace(".", "_"),
        "summary": route.summary or f"{route.wire}: see its own documents.",
        "description": _description(route),
        "tags": [operation.service.name],
        "security": [] if route.access == "public" else [{"bearer": []}],
    }
    if "expected" in operation.takes:
        parameters.append(
            _header(
                "If-Match",
                "The version that is to change, as ETag told it.",
                versions.PATTERN_NEEDED if route.needs_match else versions.PATTERN,
                required=route.needs_match,
            )
        )
    if not route.reads:
        text = "Makes a repeated request harmless: its first answer is given again."
        shape = idempotency.PATTERN_NEEDED if route.needs_key else idempotency.PATTERN
        parameters.append(_header("Idempotency-Key", text, shape, required=route.needs_key))
    if operation.fields:
        parameters.append(_fields(operation))
    if _is_followed(operation):
        text = "The id of the last event that a client of the list's events has seen."
        parameters.append(_header("Last-Event-ID", text, "", required=False))
    if parameters:
        described["parameters"] = parameters
    if operation.body is not None:
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": next(schemas)}},
        }
    described["responses"] = _responses(operation, next(schemas) if _answers(operation) else None)
    if route.needs:
        described["x-permission"] = route.needs
    if route.wire:
        described["x-wire"] = route.wire
    return described


def _responses(operation: Operation, schema: Any) -> dict[str, Any]:
    route = operation.route
    status = route.status or (201 if operation.creates else 200)
    if schema is None:
        status = route.status or (200 if route.wire else 204)
    success: dict[str, Any] = {"description": "It is done." if not route.reads else "Here it is."}
    if schema is not None:
        success["content"] = {"application/json": {"schema": schema}}
    if _is_followed(operation):
        success["content"]["text/event-stream"] = {"schema": _EVENTS}
    answers: dict[str, Any] = {str(status): success}
    if route.reads and _has_version(operation):
        answers["304"] = {"description": "It is what If-None-Match names."}
    possible = {"400", "414", "422", "429", "503", "504", *map(str, route.problems)}
    if route.access != "public":
        possible |= {"401", "403", "421"}
    if operation.parameters or not operation.is_list:
        possible.add("404")
    if not route.reads:
        possible.add("409")
    if operation.body is not None:
        possible |= {"413", "415"}
    if "expected" in operation.takes:
        possible.add("412")
    if route.needs_match:
        possible.add("428")
    for known in sorted(possible):
        answers[known] = {"$ref": f"#/components/responses/{known}"}
    return answers


def _is_followed(operation: Operation) -> bool:
    """Whether who prefers events gets the list and its changes (`edge/gateway/live.py`)."""
    return operation.is_list and operation.route.reads and not operation.route.wire


def _has_version(operation: Operation) -> bool:
    return "version" in getattr(operation.result, "__struct_fields__", ())


def _query_parameters(
    schema: Mapping[str, Any], components: Mapping[str, Any]
) -> list[dict[str, Any]]:
    shape = components[schema["$ref"].rpartition("/")[2]]
    return [
        {
            "name": name,
            "in": "query",
            "required": name in shape.get("required", ()),
            "schema": field,
        }
        for name, field in shape["properties"].items()
    ]


def _fields(operation: Operation) -> dict[str, Any]:
    names = sorted(operation.fields)
    return {
        "name": "fields",
        "in": "query",
        "required": False,
        "description": "The fields to answer with, separated by commas; all when absent.",
        "style": "form",
        "explode": False,
        "schema": {"type": "array", "minItems": 1, "items": {"type": "string", "enum": names}},
    }


def _header(name: str, text: str, pattern: str, *, required: bool) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": required,
        "description": text,
        "schema": {"type": "string", "pattern": pattern} if pattern else {"type": "string"},
    }


def _description(route: Route) -> str:
    """What the handler says at length, and who may ask."""
    caller = _CALLERS.get(route.access, f"Needs the permission `{route.needs}`.")
    return f"{route.details}\n\n{caller}".lstrip()


def _plain(schema: Any) -> Any:
    """A schema with patterns as JSON Schema has them: its `$` needs no guard (`record.shaped`)."""
    if isinstance(schema, Mapping):
        return {
            name: value.removesuffix(WHOLE)
            if name == "pattern" and isinstance(value, str)
            else _plain(value)
            for name, value in schema.items()
        }
    if isinstance(schema, list | tuple):
        return [_plain(value) for value in schema]
    return schema


def _used(components: Mapping[str, Any], *, by: Any) -> dict[str, Any]:
    """Those that something refers to, sorted: parameters have none, but for their own schemas."""
    left, found = _references(by) | {_REF.format(name=ProblemDocument.__name__)}, set[str]()
    while left:
        name = left.pop().rpartition("/")[2]
        if name in components and name not in found:
            found.add(name)
            left |= _references(components[name])
    return {name: components[name] for name in sorted(found)}


def _references(node: Any) -> set[str]:
    """What a part of the document refers to."""
    if isinstance(node, Mapping):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(_references(value) for value in node.values()))
    if isinstance(node, list | tuple):
        return set[str]().union(*(_references(value) for value in node))
    return set()
