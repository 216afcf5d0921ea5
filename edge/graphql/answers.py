"""The answer as JSON: data, and errors with what programs and people need of each.

`extensions.code` is the code that the same fault has over HTTP; `pointer` (RFC 6901) leads to the
argument that is wrong, `errors` lists all of them where there are several; `traceId` is what to
tell an operator. A bug shows nothing of itself but that it is one; it is logged.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from graphql import FieldNode, GraphQLError, get_location

from edge.graphql.arguments import pointer_of
from edge.graphql.execute import Executed
from edge.graphql.plan import RootField
from edge.graphql.refused import always, trace_of
from edge.graphql.shapes import Fault, Path
from ops import metrics
from ops.errors import NexusError, Unavailable
from ops.log import get_logger
from services._kit.actor import Actor
from services._kit.errors import Invalid

_log = get_logger("edge.graphql")
_errors = metrics.counter(
    "nexus_graphql_errors", "Fields that are errors in answers, by code.", ("code",), series_max=100
)


def executed(found: Executed, actor: Actor, *, errors_max: int) -> dict[str, Any]:
    """The answer to a request that was executed."""
    if not found.faults:
        return {"data": found.data}
    trace = trace_of(actor)
    faults = found.faults[:errors_max]
    _log_bugs(fault for fault, _ in faults)
    shown = [_error(fault, field, trace) for fault, field in faults]
    left = len(found.faults) - len(shown)
    if left:
        extensions = {**always("graphql.more_errors", trace=trace), "count": left}
        shown.append({"message": f"and {left} more errors", "extensions": extensions})
    return {"errors": shown, "data": found.data}


def _error(fault: Fault, field: RootField | None, trace: str) -> dict[str, Any]:
    error = fault.error
    extensions: dict[str, Any]
    message = str(error)
    if isinstance(error, NexusError):
        extensions = {**error.fields, **always(error.code, trace=trace)}
        if isinstance(error, Unavailable):
            extensions["retryable"] = True
            extensions["retryAfterSeconds"] = error.retry_after_seconds
        if isinstance(error, Invalid) and error.problems and field is not None and field.root:
            wrong = [
                {
                    "pointer": pointer_of(field.root, problem),
                    "code": problem.code,
                    "message": problem.message,
                }
                for problem in error.problems
            ]
            extensions["pointer"] = wrong[0]["pointer"]
            extensions["errors"] = wrong
    elif isinstance(error, GraphQLError):
        message = error.message
        extensions = always("graphql.arguments", trace=trace)
    else:
        message = "something went wrong here; it has been logged"
        extensions = always("internal", trace=trace)
    _errors.inc(labels=(extensions["code"],))
    return {
        "message": message,
        "locations": _locations([fault.node]),
        "path": _path(fault.path),
        "extensions": extensions,
    }


def _log_bugs(faults: Iterable[Fault]) -> None:
    """Each once, however many fields it is an error of."""
    for fault in {id(fault.error): fault for fault in faults}.values():
        if not isinstance(fault.error, NexusError | GraphQLError):
            _log.error("a field failed", path=_path(fault.path), exc_info=fault.error)


def _locations(nodes: Iterable[FieldNode]) -> list[dict[str, int]]:
    found = []
    for node in nodes:
        if node.loc is not None:
            place = get_location(node.loc.source, node.loc.start)
            found.append({"line": place.line, "column": place.column})
    return found


def _path(path: Path) -> Sequence[str | int]:
    steps: list[str | int] = []
    while path is not None:
        path, step = path
        steps.append(step)
    return steps[::-1]
