"""Brings the schemas of all services up to date on the server that the settings name.

`ops/migrate.py` does the work; here are the addresses, whom to let in, and what to say when nobody
answers.
"""

import asyncio
from typing import Final
from urllib.parse import parse_qs, urlsplit

import asyncpg

from ops.migrate import migrate
from ops.state.errors import StateError
from ops.state.places import Settings, addresses
from services._kit.load import load_all, schemas

AWAY: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
)


async def run(settings: Settings) -> int:
    """How many files ran. Raises StateError: nobody answers; MigrationError; SQL's own errors."""
    found = addresses(settings)
    login = login_of(found.database_url)
    # In a thread, so that the event loop goes on turning while all the services are imported.
    wanted = schemas(await asyncio.to_thread(load_all))
    try:
        return await migrate(found.admin_url, wanted, logins=(login,) if login else ())
    except AWAY as fault:
        whose = "yours" if settings.database.url else "the embedded one: start nexus up"
        raise StateError(f"PostgreSQL cannot be reached ({whose}): {fault}") from fault


def login_of(url: str) -> str:
    """The user in a PostgreSQL address, or "" when it names none."""
    parts = urlsplit(url)
    return parts.username or parse_qs(parts.query).get("user", [""])[-1]
