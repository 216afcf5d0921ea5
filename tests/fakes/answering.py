"""A process that has every service of its source tree answer, and says as JSON which did.

python -P -m tests.fakes.answering DATABASE ADMIN_URL URL
"""

import asyncio
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import aiohttp

from ops import log
from services._kit.load import load_all
from services._kit.operation import operations
from tests.fakes.bad_input import right
from tests.fakes.every_route import EveryRoute
from tests.fakes.postgres import Postgres, PostgresServer


async def statuses(routes: EveryRoute) -> dict[str, list[int]]:
    """What each service answered: for its lists, and for what it makes."""
    services = load_all()
    said: dict[str, list[int]] = {service.name: [] for service in services}
    token = routes.token("*", tenant="acme")
    async with aiohttp.ClientSession() as http:
        for operation in operations(services):
            if not operation.parameters and (operation.is_list or operation.creates):
                reply = await routes.ask(http, right(operation, {}), token)
                said[operation.service.name].append(reply.status)
    return said


def main(name: str, admin_url: str, url: str) -> None:
    log.configure(log.LogSettings(), role="edge")
    postgres = Postgres(name, url, admin_url, cast(PostgresServer, None))
    with TemporaryDirectory() as folder, EveryRoute(postgres, Path(folder)) as routes:
        sys.stdout.write(json.dumps(asyncio.run(statuses(routes))) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
