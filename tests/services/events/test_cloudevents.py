"""Envelopes are CloudEvents 1.0.2 to the reference implementation, both ways."""

from typing import Any

import msgspec
import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary, to_binary
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from services._bus.kafka import from_record, to_record
from services._events.event import Envelope
from tests.fakes.courier import envelope

TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)


def attributes(event: Envelope) -> dict[str, Any]:
    plain = msgspec.json.decode(msgspec.json.encode(event))
    plain.pop("data")
    return dict(plain)


def told(event: CloudEvent) -> dict[str, Any]:
    found = dict(event.get_attributes())
    found["time"] = found["time"].isoformat(timespec="microseconds").replace("+00:00", "Z")
    found.pop("datacontenttype", None)
    return found


@given(subject=TEXT, tenant=TEXT, traceparent=st.sampled_from(["", "00-11-22-01"]))
def test_structured_json(subject: str, tenant: str, traceparent: str) -> None:
    sent = envelope("thg_1", 3, subject=subject, tenant=tenant, traceparent=traceparent)
    found = JSONFormat().read(CloudEvent, msgspec.json.encode(sent))
    assert told(found) == attributes(sent)
    assert found.get_data() == {"thing": "thg_1", "number": 3}
    back = msgspec.json.decode(JSONFormat().write(found), type=Envelope)
    assert attributes(back) == attributes(sent)
    assert msgspec.json.decode(back.data) == {"thing": "thg_1", "number": 3}


@given(subject=TEXT, tenant=TEXT, traceparent=st.sampled_from(["", "00-11-22-01"]))
def test_binary_mode_on_kafka(subject: str, tenant: str, traceparent: str) -> None:
    sent = envelope("thg_1", 3, subject=subject, tenant=tenant, traceparent=traceparent)
    key, value, headers = to_record(sent)
    message = KafkaMessage(headers=dict(headers), key=key, value=value)
    found = from_binary(message, JSONFormat(), CloudEvent)
    assert told(found) == attributes(sent)
    assert found.get_data() == {"thing": "thg_1", "number": 3}
    theirs = to_binary(found, JSONFormat())
    back = from_record(theirs.value, theirs.headers.items())
    assert back is not None
    assert attributes(back) == attributes(sent)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("ce_specversion", b"0.3"), ("ce_id", b"1")],
        [("ce_specversion", b"1.0"), ("ce_id", b"\xff")],
        [("content-type", b"text/plain")],
    ],
)
def test_what_is_no_event_of_ours_is_told_apart(headers: list[tuple[str, bytes]]) -> None:
    assert from_record(b"anything", headers) is None
