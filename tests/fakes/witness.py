"""Somebody else's service that hears of guest lists, in a process that may be killed.

Its schema `witness` has an inbox, as any consumer's has, and a table of what it heard, in its
order. It is run as `python -m tests.fakes.witness URL REGION [KAFKA]`; `Witness` does.
"""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from edge.event_parts import bus
from ops.db import Database, DatabaseSettings, Session
from ops.migrate import Folder, Schema, migrate
from ops.notices import Notices
from ops.state.settings import KafkaSettings
from ops.tasks import Restart, SupervisedGroup
from services._bus.inbox import Consumer
from services._bus.loops import Part, loops
from services._events.event import Envelope, Event
from services._events.settings import EventsSettings
from services.entertainment.guest_list.logic import GUEST_LIST

ROOT: Final = Path(__file__).resolve().parents[2]
SETTINGS: Final = EventsSettings(lease_seconds=2.0, poll_seconds=0.5, retry_first_seconds=0.1)
CONNECTIONS_MAX: Final = 4

HEARD: Final = """
CREATE SEQUENCE heard_seq;
CREATE TABLE heard (
    seq bigint PRIMARY KEY DEFAULT nextval('heard_seq'),
    tenant text NOT NULL, event text NOT NULL, key text NOT NULL
);
"""
"""An event that came twice is there twice."""


class Witness:
    """The process. `async with` it: it has its tables, and listens."""

    def __init__(
        self, folder: Path, url: str, *, admin_url: str, region: str, kafka: str = ""
    ) -> None:
        self._folder = folder
        self._admin_url = admin_url
        self._words = [url, region, *([kafka] if kafka else [])]
        self._log = folder / "witness.log"
        self.process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        folder = self._folder / "witness"
        folder.mkdir()
        (folder / "0001_create_heard.sql").write_text(HEARD)
        kernel = Folder("events", ROOT / "services/_events/migrations")
        schema = Schema("witness", (kernel, Folder("witness", folder)))
        await migrate(self._admin_url, [schema], logins=("nexus_app",))
        self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tests.fakes.witness", *self._words],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        self.process.kill()
        self.process.wait()

    def log(self) -> str:
        return self._log.read_text(errors="replace")[-4_000:]


async def hear(session: Session, envelope: Envelope, _event: Event) -> None:
    """Writes an event down."""
    await session.run(
        "INSERT INTO heard (tenant, event, key) VALUES ($1, $2, $3)",
        envelope.tenant,
        envelope.id,
        envelope.subject,
    )


async def listen(url: str, region: str, *kafka: str) -> None:
    """Consumes for ever."""
    settings = DatabaseSettings(connections_max=CONNECTIONS_MAX)
    notices = Notices(url, settings)
    async with (
        Database(url, settings) as database,
        SupervisedGroup("witness") as group,
        bus(database, notices, SETTINGS, region=region, kafka=KafkaSettings(kafka)) as carried,
    ):
        consumer = Consumer("witness", "witness", dict.fromkeys(GUEST_LIST.events, hear))
        made = loops(
            [Part("witness", consumer=consumer)],
            database=database,
            bus=carried,
            notices=notices,
            region=region,
            settings=SETTINGS,
        )
        for name, make in [*made, ("notices", notices.run)]:
            group.keep(name, make, Restart(pause_seconds_max=0.2))
        await group.join()


if __name__ == "__main__":
    asyncio.run(listen(*sys.argv[1:]))
