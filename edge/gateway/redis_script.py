"""The script of shared limits on a real Redis; imported only where there is one, for it is slow to
import.
"""

from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from edge.gateway.shared_limits import SCRIPT, AwayError, Script


def client(url: str, *, connections_max: int) -> Redis:
    """A client, which connects when it is first used. Owns: its connections, until `aclose`."""
    made: Redis = Redis.from_url(url, max_connections=connections_max)
    return made


def script(of: Redis) -> Script:
    """The script as `SharedLimits` calls it."""
    registered = of.register_script(SCRIPT)

    async def run(*, keys: list[str], args: list[Any]) -> Any:
        try:
            return await registered(keys=keys, args=args)
        except (RedisError, RuntimeError) as error:
            # uvloop tells of a transport that is closed already by a RuntimeError.
            raise AwayError(type(error).__name__) from error

    return run
