"""What people read about settings, made from their declarations: a reference page, a sample file,
and the table of effective values. Secret values are never shown.
"""

import inspect
import json
from collections.abc import Mapping
from typing import Any, Final

from ops.settings import Entry, Loaded, entries, sections, to_plain
from ops.settings_values import type_name

MASK: Final = "***"
_INTRODUCTION: Final = """\
# Settings

Made by `nexus settings --markdown` from the code; a test keeps it equal.

A setting may stand in a TOML file (`--config PATH`, `NEXUS_CONFIG`, else `nexus.toml` in the
current folder), in the environment, or be given as a flag; the later wins: default, file,
environment, flag.

```toml
[edge]                                    # nexus.toml
listen = ["127.0.0.1:8080"]
```
```sh
NEXUS_EDGE_LISTEN=127.0.0.1:8080 nexus up   # lists: comma separated, or JSON
nexus up --edge.listen=127.0.0.1:8080
```

`nexus settings` prints the values in force and where each comes from; `nexus settings --sample` a
file to start from. A setting that does not exist, or has a wrong value, stops the start.
"""


def markdown(root: type[Any]) -> str:
    """The reference page."""
    lines = [_INTRODUCTION]
    for section, kind in sections(root).items():
        lines += [f"## [{section}]", "", _summary(kind), ""]
        lines += ["| setting | default | meaning |", "| --- | --- | --- |"]
        for entry in entries(root):
            if entry.section == section:
                lines.append(
                    f"| `{entry.field}` | `{_literal(entry.default)}` |"
                    f" {_cell(entry.help)} {_cell(_kind(entry))} `{entry.variable}` |"
                )
        lines.append("")
    return "\n".join(lines)


def sample(root: type[Any]) -> str:
    """A TOML file that changes nothing: every setting, commented out, with its default."""
    lines = ["# Settings of a Nexus COS node: take the # off a line to change it."]
    for section, kind in sections(root).items():
        lines += ["", f"# {_summary(kind)}", f"[{section}]"]
        for entry in entries(root):
            if entry.section == section:
                lines += [f"# {entry.help}", f"#{entry.field} = {_toml(entry.default)}"]
    return "\n".join(lines) + "\n"


def table(loaded: Loaded[Any]) -> str:
    """Effective values, one a line, with where each comes from."""
    rows = []
    for entry in entries(type(loaded.settings)):
        value = getattr(getattr(loaded.settings, entry.section), entry.field)
        rows.append((entry.name, shown(entry, value), loaded.origins[entry.name]))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    widths[1] = min(widths[1], 48)
    return "".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}\n" for a, b, c in rows)


def shown(entry: Entry, value: Any) -> str:
    """A value for people; `***` for a secret that is set."""
    if entry.secret and value:
        return MASK
    return _literal(_without_secrets(value))


def _summary(kind: type[Any]) -> str:
    return (inspect.getdoc(kind) or "").partition("\n")[0]


def _kind(entry: Entry) -> str:
    """Type, bounds and secrecy in a few words."""
    parts = [type_name(entry.type)]
    if entry.bounds.min is not None and entry.bounds.max is not None:
        parts.append(f"{_number(entry.bounds.min)} to {_number(entry.bounds.max)}")
    elif entry.bounds.min is not None:
        parts.append(f"at least {_number(entry.bounds.min)}")
    elif entry.bounds.max is not None:
        parts.append(f"at most {_number(entry.bounds.max)}")
    if entry.secret:
        parts.append("secret")
    return f"({'; '.join(parts)})"


def _number(bound: float) -> str:
    return f"{bound:,.0f}".replace(",", " ") if bound == int(bound) else f"{bound:g}"


def _literal(value: Any) -> str:
    plain = to_plain_value(value)
    if plain == ".":
        plain = ""
    return json.dumps(plain, ensure_ascii=False)


def to_plain_value(value: Any) -> Any:
    """JSON's types for any setting's value."""
    return to_plain({"value": value})["value"]


def _toml(value: Any) -> str:
    """JSON and TOML write the values that settings have alike; nothing is an empty text."""
    return '""' if value is None else _literal(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _without_secrets(value: Any) -> Any:
    """Masks the secret fields of tables inside a value."""
    if hasattr(value, "__dataclass_fields__"):
        made: dict[str, Any] = {}
        for name, field in value.__dataclass_fields__.items():
            inner = getattr(value, name)
            made[name] = MASK if field.metadata.get("secret") and inner else _without_secrets(inner)
        return made
    if isinstance(value, list | tuple):
        return [_without_secrets(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _without_secrets(item) for key, item in value.items()}
    return value
