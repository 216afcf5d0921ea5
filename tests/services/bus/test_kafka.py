"""What is Kafka's alone: binary mode on the wire, and records that others put into our topics."""

from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from ops.settings import SettingsError
from ops.state.settings import KafkaSettings
from services._bus.kafka import KafkaBus
from services._bus.port import BusFault
from services._events.event import topic
from tests.fakes.courier import SETTINGS, Moved, envelope
from tests.fakes.kafka import Kafka


async def test_records_are_cloudevents_in_binary_mode(kafka: Kafka) -> None:
    region = kafka.region()
    name = topic(Moved.TYPE, region=region)
    sent = envelope("thg_1", 1, region)
    async with KafkaBus(kafka.settings, SETTINGS, region=region) as bus:
        await bus.send([sent])
    plain = AIOKafkaConsumer(name, bootstrap_servers=kafka.servers, auto_offset_reset="earliest")
    await plain.start()
    try:
        record = await plain.getone()
    finally:
        await plain.stop()
    headers = dict(record.headers)
    assert record.key == b"thg_1"
    assert record.value == b'{"thing":"thg_1","number":1}'
    assert headers["content-type"] == b"application/json"
    assert headers["ce_specversion"] == b"1.0"
    assert headers["ce_id"] == sent.id.encode()
    assert headers["ce_type"] == Moved.TYPE.encode()


async def test_foreign_records_are_passed_over(kafka: Kafka) -> None:
    region = kafka.region()
    name = topic(Moved.TYPE, region=region)
    async with KafkaBus(kafka.settings, SETTINGS, region=region) as bus:
        await bus.send([envelope("thg_1", 1, region)])
        foreign = AIOKafkaProducer(bootstrap_servers=kafka.servers)
        await foreign.start()
        try:
            for value in (b"", b"{}", b"\xff\xff"):
                await foreign.send_and_wait(name, value, key=b"thg_1")
        finally:
            await foreign.stop()
        await bus.send([envelope("thg_1", 2, region)])
        found: list[str] = []
        async with bus.receiver("taker", (Moved.TYPE,)) as receiver:
            while len(found) < 2:
                batches = await receiver.fetch(0.2)
                found += [bytes(event.data).decode() for one in batches for event in one.events]
                await receiver.settle([(one, len(one.events)) for one in batches])
    assert found == ['{"thing":"thg_1","number":1}', '{"thing":"thg_1","number":2}']


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN"])
async def test_brokers_that_ask_for_tls_and_a_login(kafka: Kafka, mechanism: str) -> None:
    region = kafka.region()
    async with KafkaBus(kafka.guarded(mechanism=mechanism), SETTINGS, region=region) as bus:
        await bus.send([envelope("thg_1", 1, region)])
        async with bus.receiver("taker", (Moved.TYPE,)) as receiver:
            batches: Any = ()
            while not batches:
                batches = await receiver.fetch(0.2)
    assert [event.subject for event in batches[0].events] == ["thg_1"]


@pytest.mark.parametrize(
    "wrong", [{"password": "guessed"}, {"authorities": ""}, {"certificate": "", "key": ""}], ids=str
)
async def test_brokers_that_say_no(kafka: Kafka, wrong: dict[str, str]) -> None:
    region = kafka.region()
    async with KafkaBus(kafka.guarded(**wrong), SETTINGS, region=region) as bus:
        with pytest.raises(BusFault):
            await bus.send([envelope("thg_1", 1, region)])


def test_a_certificate_that_cannot_be_used(kafka: Kafka) -> None:
    for name in ("authorities", "certificate"):
        with pytest.raises(SettingsError, match=rf"^kafka\.{name}: /no/such: No such file"):
            KafkaBus(kafka.guarded(**{name: "/no/such"}), SETTINGS, region="eu1")


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"authorities": "a.pem"}, "tls: "),
        ({"tls": True, "certificate": "a.pem"}, "key: "),
        ({"user": "nexus"}, "password: "),
        ({"user": "nexus", "password": "x", "mechanism": "PLAIN"}, "mechanism: "),
    ],
)
def test_settings_that_do_not_fit(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=f"^{problem}"):
        KafkaSettings(**values)
