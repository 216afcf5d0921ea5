"""GraphQL's own judges and its most used client, against a real server of ours.

graphql-http's audits are the reference's list of what a server must and should do over HTTP. Apollo
Client sends hashes in place of documents, and keeps records by type and id.
"""

import asyncio
import json
import subprocess
from typing import Any

from tests.edge.graphql.backend import MemoryBackend
from tests.edge.graphql.sample import guest_id, host_id
from tests.edge.graphql.server import serving
from tests.end_to_end.publishers import NODE

AUDITS_MIN = 60
"""The list has more; fewer would mean that it was not run."""


async def node(script: str, *arguments: str) -> Any:
    """What a script prints, as JSON."""
    done = await asyncio.to_thread(
        subprocess.run,
        ["node", script, *arguments],
        cwd=NODE, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def test_every_audit_of_graphql_http_passes() -> None:
    async with serving(MemoryBackend()) as url:
        results = await node("audit.mjs", url)
    assert len(results) >= AUDITS_MIN
    failed = [f"{one['name']}: {one['reason']}" for one in results if one["status"] != "ok"]
    assert failed == []


async def test_apollo_client_works_as_it_is() -> None:
    async with serving(MemoryBackend()) as url:
        saw = await node("apollo.mjs", url, guest_id(0), host_id(1), guest_id(99))
    assert saw["first"] == [["guest 0", "host 0"], ["guest 1", "host 1"]]
    assert saw["asked"] == [
        {"method": "GET", "query": False},
        {"method": "POST", "query": True},
    ]
    assert saw["again"] == [{"method": "GET", "query": False}]
    assert saw["entities"] == sorted(
        [
            *(f"GuestListGuest:{guest_id(n)}" for n in (0, 1)),
            *(f"HostsHost:{host_id(n)}" for n in (0, 1)),
        ]
    )
    assert saw["renamed"] == "renamed"
    assert saw["failed"] == {
        "data": {"guestListGuest": None},
        "known": True,
        "codes": ["not_found"],
    }
