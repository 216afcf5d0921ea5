"""One role's process: signals, logging, metrics, uvloop and garbage collection, set up in one
place.

A role is a coroutine `run(settings, inherited)` that serves until it is cancelled, and says
`inherited.ready()` when it does. What it needs is imported by its own process alone, since a child
that died is back as fast as it imports: media reads its own sections and never loads an HTTP stack.
"""

import asyncio
import gc
import os
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import uvloop

from edge.http_settings import HttpSettings
from media.hls.writer import HlsSettings
from media.webrtc_settings import WebrtcSettings
from ops import log, metrics, pulse, tracing
from ops.inherited import Handed, Inherited
from ops.log import LogSettings
from ops.node import NodeSettings
from ops.settings import SettingsError, from_plain, secret_values
from ops.supervisor import EXIT_FAILED, EXIT_OK, EXIT_SETTINGS
from ops.tracing import TracingSettings

Work = Coroutine[Any, Any, None]

_GC_THRESHOLD: Final = (5_000, 10, 10)
"""What lives long is frozen at the start, so that looking through 5,000 young objects takes a
fraction of a millisecond. With ten times as many, signalling's cycles piled up to 10 MiB."""


class Settings(Protocol):
    """What every role's process needs of the settings."""

    @property
    def node(self) -> NodeSettings: ...
    @property
    def log(self) -> LogSettings: ...
    @property
    def tracing(self) -> TracingSettings: ...


@dataclass(frozen=True, slots=True)
class MediaSettings:
    """The sections that the media process reads."""

    node: NodeSettings = field(default_factory=NodeSettings)
    edge: HttpSettings = field(default_factory=HttpSettings)
    webrtc: WebrtcSettings = field(default_factory=WebrtcSettings)
    hls: HlsSettings = field(default_factory=HlsSettings)
    log: LogSettings = field(default_factory=LogSettings)
    tracing: TracingSettings = field(default_factory=TracingSettings)


def serve_child(role: str, handed: Handed) -> int:
    """Runs a role with what the supervisor handed over; its exit code."""
    settings: Settings
    if role == "media":
        settings = from_plain(MediaSettings, handed.settings)
    elif role == "state":
        from edge import state_role  # noqa: PLC0415

        settings = from_plain(state_role.Settings, handed.settings)
    else:
        from edge import settings as whole  # noqa: PLC0415

        settings = from_plain(whole.Settings, handed.settings)
    return serve(role, settings, handed.inherited)


def serve(role: str, settings: Settings, given: Inherited) -> int:
    """Runs a role with its sockets until SIGTERM; its exit code. Owns: `given`."""
    configure_log(settings, role, given.slot)
    metrics.start(settings.node.run_dir / "metrics", f"{role}-{given.slot}")
    tracing.start(settings.tracing, role=role, slot=given.slot)

    def begin() -> Work:
        if not given.outlives:
            given.watch_life()
        given.beat(settings.node.hang_seconds)
        work = _pulsing(role, given.slot, entry(role, settings, given))
        metrics.touch()
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


def entry(role: str, settings: Any, given: Inherited) -> Work:
    """The role's own coroutine; `settings` are those that its `run` is declared with."""
    if role == "edge":
        from edge import worker  # noqa: PLC0415

        return worker.run(settings, given)
    if role == "media":
        from media import server  # noqa: PLC0415

        return server.run(settings, given)
    if role == "state":
        from edge import state_role  # noqa: PLC0415

        return state_role.run(settings, given)
    if role == "worker":
        from edge import background  # noqa: PLC0415

        return background.run(settings, given)
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


async def _pulsing(role: str, slot: int, work: Work) -> None:
    with pulse.beating(role, slot):
        await work


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
