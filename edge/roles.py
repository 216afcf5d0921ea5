"""One role's process: signals, logging, metrics, uvloop and garbage collection, set up in one place.

A role is a coroutine `run(settings, inherited)` that serves until it is cancelled, and says
`inherited.ready()` when it does. What it needs is imported by its own process alone.
"""

import asyncio
import gc
import os
import signal
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, Final

import uvloop

from edge import access, family
from edge.settings import Settings
from ops import log, metrics, run_dir, tracing
from ops.inherited import Inherited
from ops.listeners import split_host_port, tcp_slots
from ops.settings import SettingsError, secret_values
from ops.supervisor import EXIT_FAILED, EXIT_OK, EXIT_SETTINGS

Work = Coroutine[Any, Any, None]

_GC_THRESHOLD: Final = (50_000, 20, 20)
"""What lives long is frozen at the start, what is short-lived has few cycles: collect seldom."""


def serve(role: str, settings: Settings, given: Inherited) -> int:
    """Runs a role with its sockets until SIGTERM; its exit code. Owns: `given`."""
    configure_log(settings, role, given.slot)
    metrics.start(settings.node.run_dir / "metrics", f"{role}-{given.slot}")
    tracing.start(settings.tracing, role=role, slot=given.slot)

    def begin() -> Work:
        given.watch_life()
        work = entry(role, settings, given)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLD)
        return work

    try:
        return run_stoppable(begin)
    except SettingsError as fault:
        log.get_logger("edge.roles").error("settings cannot be used", problems=fault.problems)
        return EXIT_SETTINGS
    finally:
        tracing.stop()
        given.close()


def serve_alone(role: str, settings: Settings) -> int:
    """A role without supervisor: it binds for itself. Edge and media then hear nothing of each other,
    but share the run directory and so the HLS files.

    Raises SettingsError, ListenError.
    """
    if role == "edge":
        access.check_start(settings)
    _, port = split_host_port(settings.edge.listen[0])
    path = run_dir.choose(settings.node.run_dir, port)
    for folder in (path, path / "hls", path / "metrics"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings = replace(settings, node=replace(settings.node, run_dir=path))
    given = Inherited()
    if role == "edge":
        backlog = settings.edge.backlog
        given.http = tcp_slots(settings.edge.listen, slots=1, backlog=backlog)[0][0]
        given.https = tcp_slots(settings.tls.listen, slots=1, backlog=backlog)[0][0]
    elif role == "media":
        given.udp = family.bind_udp(settings)
    return serve(role, settings, given)


def entry(role: str, settings: Settings, given: Inherited) -> Work:
    """The role's own coroutine."""
    if role == "edge":
        from edge import worker  # noqa: PLC0415

        return worker.run(settings, given)
    if role == "media":
        from media import server  # noqa: PLC0415

        return server.run(settings, given)
    from edge import demo_role  # noqa: PLC0415

    return demo_role.run(settings, given)


def run_stoppable(begin: Callable[[], Work]) -> int:
    """Runs what `begin` makes, on uvloop, until it ends or SIGTERM or SIGINT cancels it.

    Ending by itself is a failure; a second signal ends the process at once.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_until_stopped(begin))


def configure_log(settings: Settings, role: str, slot: int | None) -> None:
    """The log of this process, with every secret of the settings masked."""
    fields = {} if slot is None else {"slot": slot}
    log.configure(settings.log, role=role, fields=fields)
    for secret in secret_values(settings):
        log.hide(secret)


async def _until_stopped(begin: Callable[[], Work]) -> int:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    stopping = False

    def stop() -> None:
        nonlocal stopping
        if stopping:
            os._exit(EXIT_FAILED)
        stopping = True
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        await begin()
    except asyncio.CancelledError:
        if not stopping:
            raise
    return EXIT_OK if stopping else EXIT_FAILED
