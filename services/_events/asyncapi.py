"""The AsyncAPI 3.0 document of services' events, made of their declarations alone."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

import msgspec

from services._events.event import TYPE, Event, topic

VERSION: Final = "3.0.0"
_EXTENSIONS: Final = ("tenant", "region", "partitionkey", "sequence", "traceparent")


class Declared(Protocol):
    """What is read of a service's declaration."""

    @property
    def name(self) -> str: ...
    @property
    def summary(self) -> str: ...
    @property
    def publishes(self) -> Iterable[type[Event]]: ...
    @property
    def consumes(self) -> Mapping[type[Event], Any]: ...


def document(services: Iterable[Declared], *, version: str, region: str = "") -> dict[str, Any]:
    """The document: a channel a topic, a message a type.

    version: of the application. region: whose topics; none: it is a parameter of their addresses.
    """
    known = sorted(services, key=lambda service: service.name)
    events = {
        event.TYPE: event for service in known for event in (*service.publishes, *service.consumes)
    }
    names = sorted(events)
    schemas, shapes = msgspec.json.schema_components(
        [events[name] for name in names], ref_template="#/components/schemas/{name}"
    )
    operations: dict[str, Any] = {}
    for service in known:
        for action, types in (("send", service.publishes), ("receive", service.consumes)):
            operations |= _operations(service, action, sorted(kind.TYPE for kind in types))
    messages = dict(zip(names, schemas, strict=True))
    return {
        "asyncapi": VERSION,
        "info": {
            "title": "Nexus COS events",
            "version": version,
            "description": "CloudEvents 1.0; order holds for events of one key.",
            "contact": {"name": "Who runs this server"},
        },
        "defaultContentType": "application/json",
        "channels": _channels(names, region),
        "operations": operations,
        "components": {
            "messages": {name: _message(events[name], messages[name]) for name in names},
            "messageTraits": {"cloudEvent": {"headers": _headers()}},
            "schemas": shapes,
        },
    }


def _channels(names: Iterable[str], region: str) -> dict[str, Any]:
    channels: dict[str, dict[str, Any]] = {}
    for name in names:
        address = topic(name, region=region or "{region}")
        made: dict[str, Any] = {"address": address, "messages": {}}
        if region:
            made["bindings"] = {"kafka": {"topic": address, "bindingVersion": "0.5.0"}}
        else:
            made["parameters"] = {"region": {"description": "Where it happened, such as eu1."}}
        channel = channels.setdefault(_aggregate(name), made)
        channel["messages"][name] = {"$ref": f"#/components/messages/{name}"}
    return channels


def _operations(service: Declared, action: str, names: Iterable[str]) -> dict[str, Any]:
    """One for each topic that the service sends to or receives from."""
    operations: dict[str, Any] = {}
    for name in names:
        aggregate = _aggregate(name)
        operation = operations.setdefault(
            f"{service.name}.{action}.{aggregate}",
            {
                "action": action,
                "channel": {"$ref": f"#/channels/{aggregate}"},
                "summary": service.summary,
                "messages": [],
            },
        )
        operation["messages"].append({"$ref": f"#/channels/{aggregate}/messages/{name}"})
    return operations


def _message(event: type[Event], schema: Mapping[str, Any]) -> dict[str, Any]:
    summary = (event.__doc__ or "").strip().partition("\n")[0]
    return {
        "name": event.TYPE,
        "title": event.__name__,
        "summary": summary,
        "contentType": "application/json",
        "traits": [{"$ref": "#/components/messageTraits/cloudEvent"}],
        "payload": dict(schema),
        "bindings": {"kafka": {"key": {"type": "string"}, "bindingVersion": "0.5.0"}},
    }


def _headers() -> dict[str, Any]:
    """CloudEvents' attributes as Kafka carries them."""
    text = {"type": "string"}
    required = ("specversion", "id", "source", "type", "subject", "time")
    properties = {f"ce_{name}": text for name in (*required, *_EXTENSIONS)}
    properties["ce_time"] = {"type": "string", "format": "date-time"}
    return {
        "type": "object",
        "required": [f"ce_{name}" for name in required],
        "properties": properties,
    }


def _aggregate(name: str) -> str:
    match = TYPE.fullmatch(name)
    assert match is not None, name
    return match[1]
