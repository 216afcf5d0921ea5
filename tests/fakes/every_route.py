"""Every route of every service on loopback: a real edge worker in a process of its own, with the
gateway, the kit and a real database, and without media or background work.

What is activated as the gateway's configuration has no effect, and no limit holds.
"""

import asyncio
import hashlib
import io
import os
import socket
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import aiohttp
import uvloop
from yarl import URL

from edge.gateway.settings import GatewaySettings
from edge.gateway.side import Business
from edge.settings import Settings
from edge.worker import Worker
from ops import log
from ops.clock import SYSTEM
from ops.db import Database
from ops.inherited import Inherited
from ops.migrate import migrate
from ops.tokens import Issuer, TokenSettings, load_keys
from services._kit.call import Runtime
from services._kit.load import load_all, schemas
from services._kit.operation import operations
from services._kit.service import Service
from services.platform.backend_api.api import BackendApiSettings
from tests.fakes.bad_input import Ask
from tests.fakes.calls import KEYS
from tests.fakes.postgres import LOGIN, Postgres
from tests.fakes.small_gateway import Said
from tests.tidy.tree import ROOT

OPERATORS = BackendApiSettings().operator_tenant
"""The tenant that may do most."""
_KEYS_FILE = "token-keys.json"


class EveryRoute:
    """`with` it: the process. Its tables are made on entering."""

    def __init__(self, postgres: Postgres, folder: Path) -> None:
        """folder: for its keys, run directory and log."""
        self._postgres = postgres
        self._folder = folder
        self.url = ""

    def __enter__(self) -> Self:
        tables = schemas(load_all())
        making = migrate(self._postgres.admin_url, tables, logins=(LOGIN,))
        with ThreadPoolExecutor(1) as thread:
            # A test may have an event loop of its own.
            thread.submit(asyncio.run, making).result()
        self._keys = load_keys(self._folder / _KEYS_FILE)
        with (self._folder / "log").open("wb") as told:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "tests.fakes.every_route"),
                    *(self._postgres.url, str(self._folder)),
                ],
                env={**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH") or str(ROOT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=told,
            )
        assert self._process.stdout is not None
        port = self._process.stdout.readline().decode().strip()
        assert port, (self._folder / "log").read_text()
        self.url = f"http://127.0.0.1:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        # It ends with its standard input.
        self._process.communicate(timeout=20)

    @property
    def pid(self) -> int:
        return self._process.pid

    def token(self, *permissions: str, tenant: str) -> str:
        """A token for an hour."""
        issuer = Issuer(self._keys, issuer=TokenSettings().issuer)
        return issuer.issue(
            "ada", tenant=tenant, permissions=permissions, seconds=3_600, now=SYSTEM.unix()
        )

    async def ask(self, http: aiohttp.ClientSession, asked: Ask, token: str) -> Said:
        """What it answers, whatever the bytes of the target are. A header that is "" is not sent,
        and that of the token only if the request has none of its own."""
        headers = {"Authorization": f"Bearer {token}", **asked.headers}
        async with http.request(
            asked.method,
            URL(f"{self.url}{asked.target}", encoded=True),
            headers={name: value for name, value in headers.items() if value},
            data=None if asked.body is None else io.BytesIO(asked.body),
            allow_redirects=False,
            skip_auto_headers=("Content-Type",),
        ) as reply:
            return Said(reply.status, reply.headers, await reply.read())


def contents(postgres: Postgres, services: Iterable[Service]) -> dict[str, str]:
    """A hash of each table of the services, whoever's rows they are."""
    names = [schema.name for schema in schemas(services)]

    async def look(connection: Any) -> dict[str, str]:
        tables = await connection.fetch(
            "SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind = 'r' AND n.nspname = ANY($1) ORDER BY 1",
            names,
        )
        found = {}
        for (name,) in tables:
            rows = await connection.fetch(f"SELECT t::text FROM {name} t ORDER BY 1")
            text = "\n".join(row[0] for row in rows)
            found[name] = hashlib.sha256(text.encode()).hexdigest()
        return found

    return postgres.server.ask(look, postgres.name)


def _settings(folder: Path) -> Settings:
    base = Settings()
    return replace(
        base,
        node=replace(base.node, run_dir=folder / "run", roles=("edge",)),
        gateway=GatewaySettings(user_requests_per_second_max=0),
        tokens=TokenSettings(key_file=folder / _KEYS_FILE),
    )


async def main(url: str, folder: Path) -> None:
    """Serves until its standard input ends; says its port."""
    services = load_all()
    settings = _settings(folder)
    log.configure(settings.log, role="edge")
    (folder / "run").mkdir(exist_ok=True)
    with socket.create_server(("127.0.0.1", 0), backlog=1_024) as sock:
        sock.settimeout(0)
        async with Database(url, settings.database) as database:
            runtime = Runtime(database, services, region="eu1", keys=KEYS)
            business = Business(runtime, operations(services))
            async with Worker(settings, Inherited(http=[sock]), business=business):
                sys.stdout.write(f"{sock.getsockname()[1]}\n")
                sys.stdout.flush()
                await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1], Path(sys.argv[2])))
