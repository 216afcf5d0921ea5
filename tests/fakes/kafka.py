"""A real Kafka broker: one KRaft node a test run, started when first asked for.

Its jars come from scripts/kafka. Tests keep out of each other's way by regions: those are part of
every topic's and group's name.
"""

import contextlib
import datetime as dt
import hashlib
import itertools
import os
import random
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest

from ops.state.settings import KafkaSettings
from tests.fakes.certificates import make_certificate

ROOT = Path(__file__).resolve().parent.parent.parent
START_SECONDS = 60.0
JAVA = ("java", "-Xmx256m", "-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
QUIET = "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"
CLUSTER = "bmV4dXMtY29zLXRlc3RzLQ"
PORTS = range(20_000, 32_000)
"""Below those that Linux gives to clients: while the broker is down, a client that asks for such a
port again and again is given it at last, talks to itself, and the broker cannot have it back."""
ARE_YOU_THERE = b"\0\0\0\x0a\0\x12\0\0\0\0\0\1\xff\xff"
"""ApiVersions, version 0."""

PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},GUARDED://127.0.0.1:{guarded},\
CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},GUARDED://127.0.0.1:{guarded}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,GUARDED:SASL_SSL
sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN
listener.name.guarded.scram-sha-512.sasl.jaas.config={scram} required;
listener.name.guarded.plain.sasl.jaas.config={plain} required user_{user}="{password}";
listener.name.guarded.ssl.client.auth=required
listener.name.guarded.ssl.keystore.type=PEM
listener.name.guarded.ssl.keystore.location={folder}/pair.pem
listener.name.guarded.ssl.truststore.type=PEM
listener.name.guarded.ssl.truststore.location={folder}/certificate.pem
log.dirs={folder}/log
offsets.topic.num.partitions=3
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=200
auto.create.topics.enable=false
log.cleaner.enable=false
num.network.threads=2
num.io.threads=2
"""
SECURITY = "org.apache.kafka.common.security"
SCRAM = f"{SECURITY}.scram.ScramLoginModule"
PLAIN = f"{SECURITY}.plain.PlainLoginModule"
USER, PASSWORD = "nexus", "correct horse"
"""Of the listener that `guarded` reaches; it asks for a certificate too."""


class Kafka:
    """The broker. Enter to start it, leave to end it and remove its data."""

    def __init__(self) -> None:
        pom = (ROOT / "tests/fakes/kafka.pom.xml").read_bytes()
        home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "nexus-cos"
        cache = Path(os.environ.get("NEXUS_BUILD_CACHE", home))
        jars = cache / f"kafka-{hashlib.sha256(pom).hexdigest()[:12]}"
        self._java = (*JAVA, QUIET, "-cp", f"{jars}/*")
        assert (jars / ".complete").exists(), "no broker here: run scripts/test-packages"
        self._folder = tempfile.TemporaryDirectory(prefix="nexus-tests-kafka-")
        self._process: subprocess.Popen[bytes] | None = None
        self._regions = itertools.count(1)
        self.port, self._guarded, self._controller = _free_ports(3)
        self.servers = f"127.0.0.1:{self.port}"
        self.settings = KafkaSettings((self.servers,))

    def __enter__(self) -> Self:
        folder = Path(self._folder.name)
        properties = folder / "server.properties"
        properties.write_text(
            PROPERTIES.format(
                port=self.port,
                guarded=self._guarded,
                controller=self._controller,
                folder=folder,
                scram=SCRAM,
                plain=PLAIN,
                user=USER,
                password=PASSWORD,
            )
        )
        certificate, key = folder / "certificate.pem", folder / "key.pem"
        make_certificate(certificate, key, dt.datetime.now(dt.UTC) + dt.timedelta(days=1))
        (folder / "pair.pem").write_bytes(key.read_bytes() + certificate.read_bytes())
        scram = f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"
        subprocess.run(
            [
                *(*self._java, "kafka.tools.StorageTool", "format"),
                *("-t", CLUSTER, "-c", properties, "--add-scram", scram),
            ],
            check=True,
            capture_output=True,
        )
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._process is not None:
                self.kill()
        finally:
            self._folder.cleanup()

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        folder = Path(self._folder.name)
        with (folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [*self._java, "kafka.Kafka", folder / "server.properties"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=folder,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, (folder / "output").read_text()
            assert time.monotonic() < deadline, "Kafka does not answer"
            time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL; what it acknowledged the kernel has."""
        assert self._process is not None
        assert self._process.poll() is None, f"it ended by itself: {self._process.returncode}"
        self._process.kill()
        self._process.wait()

    def guarded(self, **changed: Any) -> KafkaSettings:
        """How to reach it by TLS, with its certificate and the right password."""
        folder = Path(self._folder.name)
        right = KafkaSettings(
            servers=(f"127.0.0.1:{self._guarded}",),
            tls=True,
            authorities=str(folder / "certificate.pem"),
            certificate=str(folder / "certificate.pem"),
            key=str(folder / "key.pem"),
            user=USER,
            password=PASSWORD,
        )
        return replace(right, **changed)

    def region(self) -> str:
        """A region that no other test has."""
        return f"tt{next(self._regions)}"

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1.0) as asking:
                asking.sendall(ARE_YOU_THERE)
                return len(asking.recv(4)) == 4
        except OSError:
            return False


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    """The broker of the whole run."""
    with Kafka() as broker:
        yield broker


def _free_ports(count: int) -> list[int]:
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as asking, contextlib.suppress(OSError):
            asking.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            break
    return found
