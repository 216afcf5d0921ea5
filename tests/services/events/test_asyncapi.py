"""The AsyncAPI document says who sends and receives what, and its references lead somewhere."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from services._events.asyncapi import document
from services._events.event import Event
from tests.fakes.courier import Moved, Painted


@dataclass(frozen=True)
class Declared:
    """As much of a service as is read."""

    name: str
    summary: str = "Something."
    publishes: tuple[type[Event], ...] = ()
    consumes: Mapping[type[Event], Any] = field(default_factory=dict)


SERVICES = [
    Declared("sender", publishes=(Moved, Painted)),
    Declared("taker", consumes={Moved: None}),
]


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for name, inside in node.items():
            if name == "$ref":
                yield inside
            yield from references(inside)
    elif isinstance(node, list):
        for inside in node:
            yield from references(inside)


def test_channels_are_topics_and_messages_are_types() -> None:
    made = document(SERVICES, region="eu1", version="1")
    assert made["asyncapi"] == "3.0.0"
    assert made["channels"]["test.thing"]["address"] == "nexus.eu1.test.thing"
    assert set(made["channels"]) == {"test.thing", "test.paint"}
    assert set(made["components"]["messages"]) == {Moved.TYPE, Painted.TYPE}
    assert {name: made["operations"][name]["action"] for name in made["operations"]} == {
        "sender.send.test.paint": "send",
        "sender.send.test.thing": "send",
        "taker.receive.test.thing": "receive",
    }


def test_every_reference_leads_somewhere() -> None:
    made = document(SERVICES, region="eu1", version="1")
    found = list(references(made))
    assert found
    for reference in found:
        node: Any = made
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]


def test_payloads_are_the_events_schemas() -> None:
    made = document(SERVICES, region="eu1", version="1")
    shape = made["components"]["schemas"]["Moved"]
    assert shape["required"] == ["thing", "number"]
    assert shape["description"] == "A thing was moved once more."
