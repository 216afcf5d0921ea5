"""What the doctor finds of state: can ours be kept here, do yours answer.

It starts no server, and makes and changes nothing but a folder that it removes at once.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import asyncpg
import redis

from edge.finding import Finding
from edge.settings import Settings
from ops.state.claim import Claim
from ops.state.errors import StateError
from ops.state.places import Places, addresses, is_embedded, places
from ops.state.postgres import MAJOR
from ops.state.programs import Account, account, installed, usable_as_installed

FREE_BYTES_MIN: Final = 2_147_483_648
"""Below this PostgreSQL may soon be unable to write; its own log alone takes up to 256 MiB."""
SERVER_VERSION_MIN: Final = 160_000
_SECONDS: Final = 3.0


def examine(settings: Settings) -> Iterator[Finding]:
    """Every finding. Cost: some milliseconds, and seconds where an address does not answer."""
    if "state" in settings.node.roles and is_embedded(settings):
        yield from _embedded(settings)
    if settings.database.url:
        yield from _postgres(settings)
    if settings.redis.url:
        yield _redis(settings)


def _embedded(settings: Settings) -> Iterator[Finding]:
    where = places(settings)
    try:
        runner = account(settings.state.account)
        installed()
    except StateError as fault:
        advice = "set state.account, or give addresses of servers of yours: docs/state.md"
        yield Finding("state servers", "fail", fault.message, advice)
        return
    detail = f"PostgreSQL {MAJOR} and Valkey from wheels, run as {runner.name}"
    if not usable_as_installed(runner):
        detail += f", copied to {where.programs} since that account cannot read the wheels"
    yield Finding("state servers", "ok", detail)
    yield _directory(where, runner)


def _directory(where: Places, runner: Account) -> Finding:
    """The nearest folder that exists is asked, so that nothing is made."""
    check, folder = "state directory", where.folder
    while not folder.exists():
        folder = folder.parent
    if not can_make_a_folder(folder):
        return Finding(check, "fail", f"{folder} is not writable", "set state.data_dir")
    if not runner.may("x", folder):
        detail = f"the account {runner.name} may not enter {folder}"
        return Finding(check, "fail", detail, "set state.data_dir to where it may")
    if where.family_lock.exists():
        claim = Claim(where.family_lock)
        if claim.try_take():
            claim.release()
        else:
            advice = "stop it to start another, or set state.data_dir"
            return Finding(check, "warn", claim.refusal(), advice)
    free = shutil.disk_usage(folder).free
    detail = f"{where.folder}: {free // 1_048_576} MiB free"
    if free < FREE_BYTES_MIN:
        return Finding(check, "warn", detail, "make room, or set state.data_dir")
    return Finding(check, "ok", detail)


def _postgres(settings: Settings) -> Iterator[Finding]:
    """Yours: does it answer, is it new enough, may migrations work."""
    found = addresses(settings)
    check = "database.url"
    try:
        number, _ = asyncio.run(_ask(found.database_url))
        _, is_admin = asyncio.run(_ask(found.admin_url))
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as fault:
        detail = f"it does not answer: {type(fault).__name__}: {fault}"
        yield Finding(check, "fail", detail, "start it, or correct the address and its login")
        return
    if number < SERVER_VERSION_MIN:
        detail = f"PostgreSQL {number // 10_000}"
        yield Finding(check, "fail", detail, f"use {SERVER_VERSION_MIN // 10_000} or later")
    elif not is_admin:
        advice = "give database.admin_url a login that may create roles and schemas"
        yield Finding(check, "warn", "nobody may migrate", advice)
    else:
        yield Finding(check, "ok", f"PostgreSQL {number // 10_000} answers")


async def _ask(url: str) -> tuple[int, bool]:
    """The server's version, and whether the login may create roles and schemas there."""
    async with asyncio.timeout(_SECONDS):
        connection = await asyncpg.connect(url, timeout=_SECONDS)
        try:
            row = await connection.fetchrow(
                "SELECT current_setting('server_version_num')::integer AS version,"
                " (rolsuper OR rolcreaterole)"
                " AND has_database_privilege(current_database(), 'CREATE') AS may_migrate"
                " FROM pg_roles WHERE rolname = current_user"
            )
            return row["version"], row["may_migrate"]
        finally:
            connection.terminate()


def _redis(settings: Settings) -> Finding:
    check = "redis.url"
    try:
        with redis.Redis.from_url(
            addresses(settings).redis_url,
            socket_timeout=_SECONDS,
            socket_connect_timeout=_SECONDS,
        ) as client:
            client.ping()
    except (redis.RedisError, OSError, ValueError) as fault:
        detail = f"it does not answer: {type(fault).__name__}: {fault}"
        return Finding(check, "fail", detail, "start it, or correct the address")
    return Finding(check, "ok", "it answers")


def can_make_a_folder(parent: Path) -> bool:
    """Tries, since rights alone do not tell it of every file system; leaves nothing."""
    try:
        Path(tempfile.mkdtemp(dir=parent)).rmdir()
    except OSError:
        return False
    return True
