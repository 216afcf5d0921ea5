"""Loads settings: frozen dataclasses filled from a file, the environment and flags.

A component declares its settings beside itself, one frozen dataclass a section, each field by
`setting(default, "One sentence with its unit.")`; a root dataclass names the sections. From it come

    section.field             the setting's name, also `[section] field = …` in the TOML file
    NEXUS_SECTION_FIELD       the environment variable, unless it declares another; lists comma
                              separated or JSON
    --section.field=value     the flag

The later wins: default, file, environment, flag. A setting that does not exist, wherever it stands,
and a value of the wrong type stop the start; every fault is told at once, with the line or variable
it stands in. Pages made of the same declarations are `ops/settings_pages.py`; values come from
`ops/settings_values.py`. It reads nothing by itself but the file it is told of.
"""

import copy
import dataclasses
import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar, get_type_hints

from ops.errors import Rejected
from ops.settings_values import Bounds, from_data, from_text

T = TypeVar("T")

PREFIX: Final = "NEXUS_"
RESERVED: Final = frozenset({"NEXUS_CONFIG", "NEXUS_FDS", "NEXUS_PROVE", "NEXUS_BUILD_CACHE"})
"""Variables with our prefix that are not settings."""

_FILE_BYTES_MAX: Final = 1_048_576
_FLAG: Final = re.compile(r"--([a-z][a-z0-9_]*)\.([a-z][a-z0-9_]*)(?:=(.*))?", re.DOTALL)
_SECTION_LINE: Final = re.compile(r"\s*\[\[?\s*([A-Za-z0-9_.-]+)\s*\]\]?")
_FIELD_LINE: Final = re.compile(r"\s*([A-Za-z0-9_-]+)\s*=")


class SettingsError(Rejected):
    """Settings that cannot be used; `problems` has one sentence each."""

    code = "settings.invalid"

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def setting(
    default: T,
    help: str,
    *,
    secret: bool = False,
    min: float | None = None,
    max: float | None = None,
    variable: str = "",
) -> T:
    """A field of a settings dataclass: its default, a sentence with the unit, and its bounds.

    Bounds hold for a number, for each number of a list; `secret` values are never shown. variable:
    the environment variable, where it is another than NEXUS_SECTION_FIELD. Returns a dataclass
    field, typed as its value.
    """
    assert help.endswith("."), f"a sentence, please: {help!r}"
    assert not variable or variable.startswith(PREFIX), variable
    metadata = {"help": help, "secret": secret, "min": min, "max": max, "variable": variable}
    made: Any
    if isinstance(default, list | dict | set):
        made = dataclasses.field(default_factory=lambda: copy.copy(default), metadata=metadata)
    else:
        made = dataclasses.field(default=default, metadata=metadata)
    value: T = made
    return value


@dataclass(frozen=True, slots=True)
class Entry:
    """One setting as it is declared."""

    section: str
    field: str
    type: Any
    default: Any
    help: str
    secret: bool
    bounds: Bounds
    given_variable: str = ""

    @property
    def name(self) -> str:
        return f"{self.section}.{self.field}"

    @property
    def variable(self) -> str:
        return self.given_variable or f"{PREFIX}{self.section}_{self.field}".upper()


@dataclass(frozen=True, slots=True)
class Loaded(Generic[T]):
    """Settings, and for each one's name where its value comes from."""

    settings: T
    origins: Mapping[str, str]


@dataclass(slots=True)
class _Found:
    """A value that some source gave, with the place for messages."""

    value: Any
    origin: str
    is_text: bool


def entries(root: type[Any]) -> Iterator[Entry]:
    """Every setting of the root's sections, in the order of declaration."""
    for section, kind in sections(root).items():
        hints = get_type_hints(kind)
        for field in dataclasses.fields(kind):
            help_text = str(field.metadata.get("help", ""))
            if not help_text:
                raise TypeError(f"{kind.__name__}.{field.name} has no help: use setting()")
            yield Entry(
                section=section,
                field=field.name,
                type=hints[field.name],
                default=_default(field),
                help=help_text,
                secret=bool(field.metadata.get("secret", False)),
                bounds=Bounds(field.metadata.get("min"), field.metadata.get("max")),
                given_variable=str(field.metadata.get("variable", "")),
            )


def sections(root: type[Any]) -> dict[str, type[Any]]:
    """The root's sections by name."""
    hints = get_type_hints(root)
    return {field.name: hints[field.name] for field in dataclasses.fields(root)}


def split_flags(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Takes `--section.field=value` and `--section.field value` out of a command line.

    Returns the flags by name and the other arguments. Raises SettingsError when a value is missing.
    """
    flags: dict[str, str] = {}
    others: list[str] = []
    queue = list(arguments)
    while queue:
        argument = queue.pop(0)
        match = _FLAG.fullmatch(argument)
        if match is None:
            others.append(argument)
            continue
        name = f"{match[1]}.{match[2]}"
        if match[3] is not None:
            flags[name] = match[3]
        elif queue and not queue[0].startswith("--"):
            flags[name] = queue.pop(0)
        else:
            raise SettingsError(f"--{name}: a value is missing: write --{name}=value")
    return flags, others


def load(
    root: type[T],
    *,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, str] | None = None,
) -> Loaded[T]:
    """Settings of `root` from these sources. Raises SettingsError with every fault found."""
    known = {entry.name: entry for entry in entries(root)}
    problems: list[str] = []
    found: dict[str, _Found] = {}
    if file is not None:
        _read_file(file, root, known, found, problems)
    _read_environment(environment or {}, known, found, problems)
    _read_flags(flags or {}, known, found, problems)
    values: dict[str, dict[str, Any]] = {section: {} for section in sections(root)}
    origins = dict.fromkeys(known, "default")
    for name, item in found.items():
        entry = known[name]
        origins[name] = item.origin
        try:
            values[entry.section][entry.field] = _value(entry, item)
        except ValueError as fault:
            problems.append(f"{item.origin}: {name}: {fault}")
    made = _build(root, values, problems)
    if problems or made is None:
        raise SettingsError(*problems)
    return Loaded(made, origins)


def from_plain(root: type[T], data: Mapping[str, Mapping[str, Any]]) -> T:
    """Settings from what `to_plain` gave. Raises SettingsError."""
    problems: list[str] = []
    values: dict[str, dict[str, Any]] = {section: {} for section in sections(root)}
    for entry in entries(root):
        given = data.get(entry.section, {})
        if entry.field in given:
            item = _Found(given[entry.field], "handed over", is_text=False)
            values[entry.section][entry.field] = _value(entry, item)
    made = _build(root, values, problems)
    if made is None:
        raise SettingsError(*problems)
    return made


def to_plain(settings: Any) -> dict[str, Any]:
    """Settings as JSON's types, secrets included: to hand over to a child, never to show."""
    plain = _plain(settings)
    assert isinstance(plain, dict)
    return plain


def secret_values(settings: Any) -> list[str]:
    """Every secret text among the settings, so that the log can mask them."""
    found: list[str] = []
    _collect_secrets(settings, found, hidden=False)
    return found


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    raise TypeError(f"setting {field.name} has no default")


def _value(entry: Entry, item: _Found) -> Any:
    """Raises ValueError with the reason, which shows no secret."""
    try:
        if item.is_text:
            return from_text(entry.type, item.value, entry.bounds)
        return from_data(entry.type, item.value, entry.bounds)
    except ValueError as fault:
        if entry.secret:
            raise ValueError("this is not a value it can have (it is secret)") from fault
        raise


def _build(root: type[T], values: dict[str, dict[str, Any]], problems: list[str]) -> T | None:
    """Makes the sections; a section's own `__post_init__` may refuse by ValueError."""
    made: dict[str, Any] = {}
    for section, kind in sections(root).items():
        try:
            made[section] = kind(**values[section])
        except ValueError as fault:
            problems.append(f"[{section}]: {fault}")
    if problems:
        return None
    return root(**made)


def _read_file(
    path: Path,
    root: type[Any],
    known: Mapping[str, Entry],
    found: dict[str, _Found],
    problems: list[str],
) -> None:
    try:
        data = path.read_bytes()
        if len(data) > _FILE_BYTES_MAX:
            raise SettingsError(f"{path}: longer than {_FILE_BYTES_MAX} bytes")
        text = data.decode()
        tables = tomllib.loads(text)
    except OSError as fault:
        raise SettingsError(f"{path}: {fault.strerror or fault}") from fault
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise SettingsError(f"{path}: {fault}") from fault
    lines = _lines(text)
    names = sections(root)
    for section, fields in tables.items():
        where = f"{path}:{lines.get(section, 1)}"
        if section not in names:
            hint = _hint(section, names, "[{}]")
            problems.append(f"{where}: there is no section [{section}]{hint}")
            continue
        if not isinstance(fields, dict):
            problems.append(f"{where}: {section} is a section: write [{section}]")
            continue
        for field, value in fields.items():
            name = f"{section}.{field}"
            where = f"{path}:{lines.get(name, lines.get(section, 1))}"
            if name not in known:
                problems.append(f"{where}: there is no setting {name}{_hint(name, known)}")
                continue
            found[name] = _Found(value, where, is_text=False)


def _lines(text: str) -> dict[str, int]:
    """The line of each section and of each setting in a TOML file that is known to be sound."""
    found: dict[str, int] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), start=1):
        header = _SECTION_LINE.match(line)
        if header:
            section = header[1]
            found.setdefault(section, number)
            continue
        field = _FIELD_LINE.match(line)
        if field:
            found.setdefault(f"{section}.{field[1]}" if section else field[1], number)
    return found


def _read_environment(
    environment: Mapping[str, str],
    known: Mapping[str, Entry],
    found: dict[str, _Found],
    problems: list[str],
) -> None:
    variables = {entry.variable: entry for entry in known.values()}
    assert len(variables) == len(known), "two settings share one environment variable"
    for variable, text in sorted(environment.items()):
        if not variable.startswith(PREFIX) or variable in RESERVED:
            continue
        entry = variables.get(variable)
        if entry is None:
            hint = _hint(variable, variables)
            problems.append(f"{variable}: there is no such setting{hint}")
            continue
        found[entry.name] = _Found(text, variable, is_text=True)


def _read_flags(
    flags: Mapping[str, str],
    known: Mapping[str, Entry],
    found: dict[str, _Found],
    problems: list[str],
) -> None:
    for name, text in flags.items():
        if name not in known:
            hint = _hint(name, known, "--{}")
            problems.append(f"--{name}: there is no such setting{hint}")
            continue
        found[name] = _Found(text, f"--{name}", is_text=True)


def _hint(wrong: str, right: Mapping[str, object], shape: str = "{}") -> str:
    close = difflib.get_close_matches(wrong, list(right), n=1, cutoff=0.6)
    return f"; did you mean {shape.format(close[0])}?" if close else ""


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return value


def _collect_secrets(value: Any, found: list[str], *, hidden: bool) -> None:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for item in dataclasses.fields(value):
            secret = hidden or bool(item.metadata.get("secret", False))
            _collect_secrets(getattr(value, item.name), found, hidden=secret)
    elif isinstance(value, Mapping):
        for inner in value.values():
            _collect_secrets(inner, found, hidden=hidden)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            _collect_secrets(inner, found, hidden=hidden)
    elif hidden and isinstance(value, str) and value:
        found.append(value)
