"""`nexus bench gateway`: what a business request costs, layer by layer, under wrk.

Edge workers, an embedded PostgreSQL and wrk share this machine's cores. Each layer is asked for as
fast as wrk can, then at half of that rate; CPU time is that of all workers and of PostgreSQL.

    aiohttp        its server alone, one handler, no rules: what others begin with
    http           our worker, a route that is open to all: strict head, routing, encoding, metrics
    + token        an ES256 bearer token of one of 100 tenants
    + limit        a token bucket of each user's
    + database     a random row of 100,000, under forced row-level security; nothing is kept
"""

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import asyncpg
import msgspec

from benchmarks import options, server
from benchmarks.gateway_worker import BARE, NAME, Orders, settings_of
from benchmarks.process import cpu_seconds, family
from benchmarks.progress import Progress
from benchmarks.results import Row
from edge.token_keys import key_file
from ops import log
from ops.clock import SYSTEM
from ops.log import LogSettings
from ops.migrate import Folder, Schema, migrate
from ops.state.embedded import Embedded
from ops.state.places import LOGIN, addresses
from ops.tokens import Issuer, load_keys

TENANTS: Final = 100
ROWS: Final = 100_000
LIMIT: Final = 1_000_000
"""Requests a second that each user is allowed where a limit is on: nobody is refused."""
CONNECTIONS: Final = 64
_START_SECONDS: Final = 60.0
_TABLE: Final = """
CREATE TABLE item (
    tenant text NOT NULL,
    id text NOT NULL,
    name text NOT NULL,
    version integer NOT NULL,
    PRIMARY KEY (tenant, id)
);
"""
_FILL: Final = f"""
INSERT INTO {NAME}.item SELECT 't' || n % {TENANTS}, n::text, 'item ' || n, 1
FROM generate_series(0, {ROWS - 1}) n
"""
_SCRIPT: Final = """
local tokens = {TOKENS}
math.randomseed(os.time())
function request()
  local n = math.random(0, ROWS - 1)
  local path = string.gsub("PATH", "{id}", n)
  local headers = {}
  if #tokens > 0 then headers["Authorization"] = "Bearer " .. tokens[n % #tokens + 1] end
  return wrk.format("GET", path, headers)
end
function delay() return DELAY end
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    'JSON {"requests":%d,"us":%d,"lost":%d,"p50":%d,"p95":%d,"p99":%d}\\n',
    summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(95), latency:percentile(99)))
end
"""


@dataclass(frozen=True, slots=True)
class Layer:
    """What is asked for, and what is on when it is."""

    name: str
    path: str
    signed_in: bool = False
    limited: bool = False
    bare: bool = False


LAYERS: Final = (
    Layer("aiohttp", BARE, bare=True),
    Layer("http", f"/v1/{NAME}/open"),
    Layer("+ token", f"/v1/{NAME}/hello", signed_in=True),
    Layer("+ limit", f"/v1/{NAME}/hello", signed_in=True, limited=True),
    Layer("+ database", f"/v1/{NAME}/items/{{id}}", signed_in=True, limited=True),
)


class Said(msgspec.Struct):
    """What wrk counted; times in microseconds."""

    requests: int
    us: int
    lost: int
    p50: int
    p95: int
    p99: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--seconds", type=options.count, default=8, help="of each layer")
    parser.add_argument("--workers", type=options.count, default=2, help="edge workers")


async def run(chosen: argparse.Namespace, progress: Progress) -> list[Row]:
    """Two rows for each layer and repeat. Raises LookupError (no wrk), OSError, TimeoutError."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise LookupError("wrk is not installed: apt-get install wrk")
    log.configure(LogSettings(level="error"), role="bench")
    rows = []
    async with _database() as database:
        for _ in range(chosen.repeat):
            for limited in (False, True):
                async with _workers(database, chosen.workers, limited=limited) as family_of:
                    for layer in LAYERS:
                        if layer.limited == limited:
                            progress.say(layer.name)
                            rows += await _measured(family_of, layer, wrk, chosen)
    return rows


@dataclass(frozen=True, slots=True)
class _State:
    """The database and its folder."""

    folder: Path
    url: str
    pid: int


@dataclass(frozen=True, slots=True)
class _Workers:
    """The workers that answer."""

    port: int
    bare_port: int
    pids: tuple[int, ...]
    state: _State
    tokens: tuple[str, ...]

    def cpu_seconds(self) -> tuple[float, float]:
        """Of the workers, and of PostgreSQL, so far."""
        return cpu_seconds(*self.pids), cpu_seconds(*family(self.state.pid))


@asynccontextmanager
async def _database() -> AsyncIterator[_State]:
    """PostgreSQL with the rows."""
    with tempfile.TemporaryDirectory(prefix="nexus-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        tables = _tables(folder)
        settings = settings_of(_orders(folder))
        where, failed = addresses(settings), asyncio.Event()
        async with Embedded(settings, connections_max=200, on_failure=failed.set) as made:
            async with asyncio.timeout(_START_SECONDS):
                await made.ready()
            await migrate(where.admin_url, [Schema(NAME, (Folder(NAME, tables),))], logins=[LOGIN])
            admin = await asyncpg.connect(where.admin_url)
            try:
                await admin.execute(_FILL)
                await admin.execute(f"VACUUM ANALYZE {NAME}.item")
            finally:
                await admin.close()
            yield _State(folder, where.database_url, made.pids()["postgres"])


def _tables(folder: Path) -> Path:
    """The folder with the table's migration. PostgreSQL's account passes through."""
    folder.chmod(0o755)
    (folder / "run").mkdir()
    tables = folder / "tables"
    tables.mkdir()
    (tables / "0001_create_item.sql").write_text(_TABLE)
    return tables


def _orders(folder: Path, **more: Any) -> Orders:
    orders = Orders(
        slot=0,
        workers=1,
        port=1,
        bare_port=2,
        run_dir=str(folder / "run"),
        data_dir=str(folder / "state"),
        database_url="",
        requests_per_second_max=0,
    )
    return msgspec.structs.replace(orders, **more)


@asynccontextmanager
async def _workers(state: _State, count: int, *, limited: bool) -> AsyncIterator[_Workers]:
    """Edge workers on one port, and their tenants' tokens."""
    port, bare_port = server.free_port(), server.free_port()
    async with AsyncExitStack() as stack:
        pids = []
        for slot in range(count):
            orders = _orders(
                state.folder,
                slot=slot,
                workers=count,
                port=port,
                bare_port=bare_port,
                database_url=state.url,
                requests_per_second_max=LIMIT if limited else 0,
            )
            words = [sys.executable, "-m", "benchmarks.gateway_worker"]
            words.append(msgspec.json.encode(orders).decode())
            output = state.folder / f"worker-{slot}"
            process = await stack.enter_async_context(server.process_of(words, output))
            await server.until(partial(_is_ready, output), process, output)
            pids.append(process.pid)
        issuer = Issuer(load_keys(key_file(settings_of(_orders(state.folder)))), issuer="nexus")
        tokens = tuple(
            issuer.issue(
                f"usr_{number}",
                tenant=f"t{number}",
                permissions=["bench.item.read"],
                seconds=3_600,
                now=SYSTEM.unix(),
            )
            for number in range(TENANTS)
        )
        yield _Workers(port, bare_port, tuple(pids), state, tokens)


def _is_ready(output: Path) -> bool:
    return "ready" in output.read_text()


async def _measured(
    workers: _Workers, layer: Layer, wrk: str, chosen: argparse.Namespace
) -> list[Row]:
    """As fast as it goes, and at half of that rate."""
    await _load(workers, layer, [wrk, f"-d{max(1, chosen.seconds // 4)}s"], delay_ms=0)
    command = [wrk, f"-d{chosen.seconds}s"]
    full = await _row(workers, layer, command, chosen, delay_ms=0)
    assert full.per_second is not None
    delay_ms = round(CONNECTIONS * 2_000 / full.per_second)
    half = await _row(workers, layer, command, chosen, delay_ms=delay_ms)
    return [full, replace(half, unit=f"request at half load: {layer.name}")]


async def _row(
    workers: _Workers,
    layer: Layer,
    command: Sequence[str],
    chosen: argparse.Namespace,
    *,
    delay_ms: int,
) -> Row:
    ours, theirs = workers.cpu_seconds()
    said = await _load(workers, layer, command, delay_ms=delay_ms)
    ours_after, theirs_after = workers.cpu_seconds()
    edge_us = (ours_after - ours) / said.requests * 1e6
    postgres_us = (theirs_after - theirs) / said.requests * 1e6
    return Row(
        bench="gateway.request",
        who="aiohttp" if layer.bare else chosen.who,
        clients=CONNECTIONS,
        unit=f"request: {layer.name}",
        cpu_us=edge_us + postgres_us,
        p50_ms=said.p50 / 1_000,
        p95_ms=said.p95 / 1_000,
        p99_ms=said.p99 / 1_000,
        per_second=said.requests / said.us * 1e6,
        lost=said.lost,
        note=chosen.note,
        more={
            "edge_cpu_us": round(edge_us, 3),
            "postgres_cpu_us": round(postgres_us, 3),
            "workers": len(workers.pids),
        },
    )


async def _load(workers: _Workers, layer: Layer, command: Sequence[str], *, delay_ms: int) -> Said:
    """Has wrk ask. Raises LookupError: it did not."""
    tokens = ",".join(json.dumps(token) for token in workers.tokens) if layer.signed_in else ""
    script = _SCRIPT.replace("TOKENS", tokens).replace("ROWS", str(ROWS))
    script = script.replace("PATH", layer.path).replace("DELAY", str(delay_ms))
    if not delay_ms:
        script = script.replace("function delay() return 0 end\n", "")
    file = workers.state.folder / "wrk.lua"
    file.write_text(script)
    port = workers.bare_port if layer.bare else workers.port
    process = await asyncio.create_subprocess_exec(
        *command,
        "-t1",
        f"-c{CONNECTIONS}",
        "-s",
        str(file),
        f"http://127.0.0.1:{port}",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    for line in output.decode(errors="replace").splitlines():
        if line.startswith("JSON "):
            return msgspec.json.decode(line[5:], type=Said)
    raise LookupError(f"wrk said: {output.decode(errors='replace')[-500:]}")
