"""Kafka as the bus: CloudEvents in binary mode, topic by aggregate, key = aggregate id.

CloudEvents' Kafka protocol binding 1.0.2, section 3.2. The producer is idempotent and never has
two batches of one partition under way, so that a failed one is never overtaken. Consumers are one
group a service, `nexus.<region>.<consumer>`; offsets are committed after the inbox's transactions.
Topics are made on first use.
"""

import asyncio
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Self

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaError,
    TopicAlreadyExistsError,
    for_code,
)
from aiokafka.partitioner import DefaultPartitioner

from ops.metrics import counter
from ops.settings import SettingsError
from ops.state.settings import KafkaSettings
from services._bus.port import Batch, BusFault
from services._events.event import Envelope, topic
from services._events.settings import EventsSettings

REQUEST_MS: Final = 5_000
COPIES: Final = 3
BATCH_BYTES_MAX: Final = 900_000
"""Of one batch to one partition; brokers take 1 MiB."""

_refused = counter("nexus_events_foreign", "Kafka records that are not CloudEvents of ours.")
_partitioner: Final = DefaultPartitioner()
_ATTRIBUTES: Final = tuple(name for name in Envelope.__struct_fields__ if name != "data")

Record = tuple[bytes, bytes, list[tuple[str, bytes]]]
"""Key, value, headers."""


def to_record(event: Envelope) -> Record:
    """Binary content mode: attributes are headers `ce_…`, the value is the data."""
    headers = [("ce_specversion", b"1.0"), ("content-type", b"application/json")]
    for name in _ATTRIBUTES:
        value: str = getattr(event, name)
        if value:
            headers.append((f"ce_{name}", value.encode()))
    return event.partitionkey.encode(), bytes(event.data), headers


def from_record(value: bytes | None, headers: Iterable[tuple[str, bytes]]) -> Envelope | None:
    """The event; None: the record is not one of ours."""
    try:
        found = {name[3:]: text.decode() for name, text in headers if name.startswith("ce_")}
        plain = msgspec.convert(found | {"data": None}, _Attributes)
    except (UnicodeDecodeError, msgspec.ValidationError):
        return None
    attributes = {name: getattr(plain, name) for name in _ATTRIBUTES}
    return Envelope(**attributes, data=msgspec.Raw(value or b"null"))


class _Attributes(Envelope, frozen=True, kw_only=True, tag="1.0", tag_field="specversion"):
    """The same without its data, which is not read here."""

    data: None  # type: ignore[assignment]


def _way(kafka: KafkaSettings) -> dict[str, Any]:
    """How clients reach the brokers: where, by TLS or not, and as whom."""
    way: dict[str, Any] = {"bootstrap_servers": list(kafka.servers)}
    protocol = "SSL" if kafka.tls else "PLAINTEXT"
    if kafka.user:
        protocol = f"SASL_{protocol}"
        way["sasl_mechanism"] = kafka.mechanism
        way["sasl_plain_username"], way["sasl_plain_password"] = kafka.user, kafka.password
    if kafka.tls:
        way["ssl_context"] = _context(kafka)
    return way | {"security_protocol": protocol}


def _context(kafka: KafkaSettings) -> ssl.SSLContext:
    name = "authorities"
    try:
        context = ssl.create_default_context(cafile=kafka.authorities or None)
        name = "certificate"
        if kafka.certificate:
            context.load_cert_chain(kafka.certificate, kafka.key)
    except OSError as fault:
        path = getattr(kafka, name)
        raise SettingsError(f"kafka.{name}: {path}: {fault.strerror or fault}") from fault
    return context


class KafkaBus:
    """See `services/_bus/port.py`. `async with` it to send; receivers stand for themselves.

    Owns: the producer's connections.
    """

    def __init__(self, kafka: KafkaSettings, settings: EventsSettings, *, region: str) -> None:
        """Raises SettingsError: a certificate cannot be used."""
        self._way = _way(kafka)
        self._settings = settings
        self._region = region
        self._producer: AIOKafkaProducer | None = None
        self._topics: set[str] = set()
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def send(self, events: Sequence[Envelope]) -> None:
        async with self._lock:  # one batch of a partition at a time, whichever schema it is from
            try:
                producer = await self._started()
                waiting = await self._by_partition(producer, events)
                while waiting:
                    await self._wave(producer, waiting)
            except BaseException as fault:
                # What it still holds must not be sent behind our back, after what failed.
                await self._close()
                if isinstance(fault, KafkaError | OSError):
                    raise BusFault("Kafka did not take the events") from fault
                raise

    @asynccontextmanager
    async def receiver(self, consumer: str, types: Sequence[str]) -> "AsyncIterator[KafkaReceiver]":
        """A member of the consumer's group. Raises BusFault."""
        topics = sorted({topic(kind, region=self._region) for kind in types})
        client = AIOKafkaConsumer(
            **self._way,
            group_id=f"nexus.{self._region}.{consumer}",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            request_timeout_ms=REQUEST_MS,
            session_timeout_ms=int(self._settings.lease_seconds * 1_000),
            heartbeat_interval_ms=int(self._settings.lease_seconds * 300),
            max_poll_records=self._settings.batch_max * 8,
        )
        client.subscribe(topics)
        try:
            await self._make_topics(topics)
            await client.start()
            yield KafkaReceiver(client)
        except (KafkaError, OSError) as fault:
            raise BusFault("Kafka cannot be read") from fault
        finally:
            await client.stop()

    async def sweep(self) -> None:
        """Brokers forget by their own settings."""

    async def _by_partition(
        self, producer: AIOKafkaProducer, events: Sequence[Envelope]
    ) -> dict[TopicPartition, list[Record]]:
        """Records, oldest last, so that they are taken from the end."""
        names = [topic(event.type, region=self._region) for event in events]
        await self._make_topics(names)
        known = {name: sorted(await producer.partitions_for(name)) for name in set(names)}
        found: dict[TopicPartition, list[Record]] = defaultdict(list)
        for name, event in zip(reversed(names), reversed(events), strict=True):
            record = to_record(event)
            number = _partitioner(record[0], known[name], known[name])
            found[TopicPartition(name, number)].append(record)
        return found

    async def _wave(
        self, producer: AIOKafkaProducer, waiting: dict[TopicPartition, list[Record]]
    ) -> None:
        """Sends one batch to each partition and waits for all of them."""
        sent = []
        for place, records in list(waiting.items()):
            batch = producer.create_batch()
            while records:
                key, value, headers = records[-1]
                if batch.append(key=key, value=value, timestamp=None, headers=headers) is None:
                    break
                records.pop()
            assert batch.record_count(), "an event larger than a batch"
            if not records:
                del waiting[place]
            sent.append(await producer.send_batch(batch, place.topic, partition=place.partition))
        await asyncio.gather(*sent)

    async def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            self._producer = AIOKafkaProducer(
                **self._way,
                enable_idempotence=True,
                acks="all",
                max_batch_size=BATCH_BYTES_MAX,
                request_timeout_ms=REQUEST_MS,
            )
            await self._producer.start()
        return self._producer

    async def _close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    async def _make_topics(self, names: Iterable[str]) -> None:
        """Makes those that are not there yet."""
        missing = sorted(set(names) - self._topics)
        if not missing:
            return
        admin = AIOKafkaAdminClient(**self._way, request_timeout_ms=REQUEST_MS)
        await admin.start()
        try:
            count = self._settings.kafka_partitions
            copies = self._settings.kafka_copies
            copies = copies or min(len((await admin.describe_cluster())["brokers"]), COPIES)
            answer = await admin.create_topics([NewTopic(name, count, copies) for name in missing])
        finally:
            await admin.close()
        for name, code, *_ in answer.topic_errors:
            if code and for_code(code) is not TopicAlreadyExistsError:
                raise for_code(code)(name)
        self._topics.update(missing)


class KafkaReceiver:
    """One member of a consumer group."""

    def __init__(self, client: AIOKafkaConsumer) -> None:
        self._client = client

    async def fetch(self, seconds: float) -> Sequence[Batch]:
        """Records of ours; offsets of others are settled with what stands before them."""
        found = await self._client.getmany(timeout_ms=int(seconds * 1_000))
        batches = []
        for place, records in found.items():
            events: list[Envelope] = []
            places: list[int] = []
            for record in records:
                event = from_record(record.value, record.headers)
                if event is not None:
                    events.append(event)
                    places.append(record.offset + 1)
                    continue
                _refused.inc()
                if places:
                    places[-1] = record.offset + 1
            if events:
                batches.append(Batch(place, tuple(events), tuple(places)))
        return batches

    async def settle(self, done: Sequence[tuple[Batch, int]]) -> None:
        for batch, count in done:
            if count < len(batch.events):
                again = batch.places[count - 1] if count else None
                await self._again(batch.token, again)
        offsets = {batch.token: batch.places[count - 1] for batch, count in done if count}
        if not offsets:
            return
        try:
            await self._client.commit(offsets)
        except (CommitFailedError, IllegalStateError):
            # The group gave its partitions to others, who handle them again.
            return

    async def _again(self, place: TopicPartition, offset: int | None) -> None:
        """What was fetched from there on is fetched once more."""
        if place not in self._client.assignment():
            return
        if offset is None:
            await self._client.seek_to_committed(place)
        else:
            self._client.seek(place, offset)
