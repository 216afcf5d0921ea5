"""A supervisor of calls: one stream's bug must not stop the others.

For what is called on the loop for one stream after another; tasks have `ops/tasks.py`.
"""

from collections.abc import Callable
from typing import ParamSpec

from ops import metrics
from ops.log import get_logger

P = ParamSpec("P")

_log = get_logger("media.guard")
_faults = metrics.counter("nexus_media_faults", "Bugs met while a stream was handled.")


def guarded(
    stream: str,
    on_fault: Callable[[str], None],
    call: Callable[P, None],
    *args: P.args,
    **kwargs: P.kwargs,
) -> None:
    """Calls; whatever it raises is logged with its traceback and counted, and `on_fault` told."""
    try:
        call(*args, **kwargs)
    except Exception as error:  # noqa: BLE001  a supervisor's job
        _faults.inc()
        _log.error("a bug while handling a stream", stream=stream, exc_info=error)
        on_fault(stream)
