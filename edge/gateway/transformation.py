"""Changes requests and answers as a configuration says: header fields, path, JSON members.

Declarative on purpose: what needs a program is a service. A JSON body that is changed is read
whole, so it is bounded; what is not JSON, or longer, is left as it is (an answer) or refused.
"""

from typing import Any
from urllib.parse import quote

import orjson

from edge.gateway.fields import Pairs
from services.platform.backend_api.api import HeaderChange, JsonChange


def changed_headers(pairs: Pairs, change: HeaderChange) -> Pairs:
    """The fields after the change; names in lower case."""
    kept = [
        (change.rename.get(name, name), value)
        for name, value in pairs
        if name not in change.remove and change.rename.get(name, name) not in change.set
    ]
    return [*kept, *change.set.items(), *change.add.items()]


def changed_path(template: str, parameters: dict[str, str]) -> str:
    """A request's new path, each `{name}` replaced by the parameter, encoded; a slash only where
    the parameter is the rest of a path."""
    path = template
    for name, value in parameters.items():
        path = path.replace("{" + name + "}", quote(value, safe="/" if "/" in value else ""))
    return path


def is_json(content_type: str) -> bool:
    """Whether a media type is JSON's."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def changed_json(body: bytes, change: JsonChange) -> bytes:
    """The body after the change. Raises ValueError: it is not JSON."""
    value = orjson.loads(body)
    if change.keep:
        kept: Any = {}
        for pointer in change.keep:
            found, there = _get(value, _steps(pointer))
            if there:
                kept = _put(kept, _steps(pointer), found)
        value = kept
    for pointer in change.remove:
        _pop(value, _steps(pointer))
    for source, target in change.rename.items():
        found, there = _pop(value, _steps(source))
        if there:
            value = _put(value, _steps(target), found)
    for pointer, member in change.set.items():
        value = _put(value, _steps(pointer), member)
    return orjson.dumps(value)


def found_at(value: Any, pointer: str) -> tuple[Any, bool]:
    """What a JSON pointer (RFC 6901) leads to, and whether there is anything."""
    return _get(value, _steps(pointer))


def _steps(pointer: str) -> list[str]:
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer[1:].split("/")]


def _get(value: Any, steps: list[str]) -> tuple[Any, bool]:
    for step in steps:
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None, False
    return value, True


def _pop(value: Any, steps: list[str]) -> tuple[Any, bool]:
    holder, there = _get(value, steps[:-1])
    last = steps[-1]
    if there and isinstance(holder, dict) and last in holder:
        return holder.pop(last), True
    if there and isinstance(holder, list) and last.isdigit() and int(last) < len(holder):
        return holder.pop(int(last)), True
    return None, False


def _put(value: Any, steps: list[str], member: Any) -> Any:
    """Sets a member; objects on the way are made, lists only changed where they have it."""
    if not steps:
        return member
    step, rest = steps[0], steps[1:]
    if isinstance(value, list):
        if step.isdigit() and int(step) < len(value):
            value[int(step)] = _put(value[int(step)], rest, member)
        return value
    holder = value if isinstance(value, dict) else {}
    holder[step] = _put(holder.get(step), rest, member)
    return holder
