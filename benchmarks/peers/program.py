"""A rival's program as a child: started, ready once its port answers, stopped."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from benchmarks import server


@contextlib.asynccontextmanager
async def running(
    command: Sequence[str], port: int, log: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Raises LookupError when nobody listens on the TCP port in time. **Owns** the process."""
    async with server.process_of(list(command), log) as process:
        await server.until(lambda: server.listens(port), process, log)
        yield process
