"""The demo as a child of the node: publishes, and says "ready" once its stream is seen to be live.

It asks the node as any client would, so that "ready" means a picture, not a connection.
"""

import asyncio
from typing import Final

import aiohttp

from edge.demo import publisher
from edge.family import address_to_open
from edge.settings import Settings
from ops.inherited import Inherited
from ops.tasks import SupervisedGroup

ASK_SECONDS: Final = 0.2
_TIMEOUT_SECONDS: Final = 2.0


async def run(settings: Settings, inherited: Inherited) -> None:
    """Publishes until cancelled."""
    async with SupervisedGroup("demo") as group:
        if inherited.status >= 0:
            group.start("ready", _say_ready(settings, inherited))
        await publisher.run(settings)


async def _say_ready(settings: Settings, inherited: Inherited) -> None:
    """Polls until the stream is live, or until we are told that this is none of our business."""
    demo = settings.demo
    headers = {"Authorization": f"Bearer {demo.key}"} if demo.key else {}
    base = f"http://{address_to_open(settings.edge.listen[0])}"
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(base, headers=headers, timeout=timeout) as http:
        while True:
            if demo.url or await _is_live(http, demo.stream):
                break
            await asyncio.sleep(ASK_SECONDS)
    inherited.ready()


async def _is_live(http: aiohttp.ClientSession, stream: str) -> bool:
    try:
        async with http.get(f"/api/v1/streams/{stream}") as answer:
            if answer.status in (401, 403):
                return True
            return answer.status == 200 and (await answer.json()).get("state") == "live"
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return False
