"""Structured log lines on standard error: one event, its fields, and no secret.

JSON for machines, columns for people. Libraries that use the standard `logging` come out in the
same shape. It writes to standard error only; files and rotation are the platform's.
"""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from types import ModuleType, TracebackType
from typing import Any, Final, Literal, TextIO, cast

import orjson

from ops.settings import setting

# structlog loads rich for tracebacks that we do not draw, 0.2 s of a child's start where it is
# installed.
_rich = sys.modules.get("rich")
sys.modules["rich"] = cast("ModuleType", None)
import structlog  # noqa: E402

if _rich is None:
    del sys.modules["rich"]
else:
    sys.modules["rich"] = _rich

Logger = structlog.typing.FilteringBoundLogger

_SECRET_CHARACTERS_MIN: Final = 6
_HIDDEN_MAX: Final = 1_000
_MASK: Final = "***"
_SECRET_FIELDS: Final = frozenset(
    {"authorization", "cookie", "key", "password", "secret", "token", "passphrase", "ice_pwd"}
)
_SECRET_ENDINGS: Final = ("_key", "_password", "_secret", "_token")
_CREDENTIALS: Final = re.compile(r"(?i)(\bbearer\s+)[A-Za-z0-9._~+/=-]+|(/~)[^/\s?\"']+")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\x80-\x9f\u2028\u2029]")

_hidden: dict[str, None] = {}


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What is logged, and how it looks."""

    level: Literal["debug", "info", "warning", "error"] = setting(
        "info", "The least severe event that is written."
    )
    format: Literal["auto", "json", "console"] = setting(
        "auto", "One JSON object a line, columns for people, or auto: columns on a terminal."
    )


def get_logger(name: str) -> Logger:
    """A logger whose lines carry `component=name`. Bind more with `.bind(stream=…)`."""
    return cast("Logger", structlog.get_logger(component=name))


def hide(secret: str) -> None:
    """From now on this text is masked wherever it would appear in a log line."""
    if len(secret) >= _SECRET_CHARACTERS_MIN and len(_hidden) < _HIDDEN_MAX:
        _hidden[secret] = None


def configure(
    settings: LogSettings, *, role: str, fields: Mapping[str, object] | None = None
) -> None:
    """Sets up this process's logging; may be called again. Every line carries role and `fields`."""
    console = settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty())
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _Constants({"role": role, **(fields or {})}),
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.ExceptionRenderer(),
        _redact,
    ]
    renderer: structlog.typing.Processor = _render_console if console else _render_json
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_LineWriterFactory(),
        cache_logger_on_first_use=False,
    )
    handler = _LibraryHandler()
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING) if level > logging.DEBUG else level)
    logging.captureWarnings(capture=True)
    sys.excepthook = _on_uncaught


def _on_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """The last words of a process that a bug ends are a line like any other."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    get_logger("ops.log").critical("the process ends", exc_info=(kind, error, trace))


class _Constants:
    """Adds the fields that every line of this process has; a line's own fields win."""

    def __init__(self, fields: Mapping[str, object]) -> None:
        self._fields = fields

    def __call__(
        self, _logger: object, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        for name, value in self._fields.items():
            event.setdefault(name, value)
        return event


class _LineWriter:
    """One write a line; a log that nobody reads any more must not end the process."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            return

    log = debug = info = warn = warning = msg
    fatal = failure = err = error = critical = exception = msg


class _LineWriterFactory:
    def __call__(self, *_args: object) -> _LineWriter:
        return _LineWriter(sys.stderr)


class _LibraryHandler(logging.Handler):
    """Passes records of the standard `logging` on to our own line."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except (TypeError, ValueError):
            message = str(record.msg)
        logger = get_logger(record.name)
        logger.log(record.levelno, "library", message=message, exc_info=record.exc_info)


def _redact(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for name, value in event.items():
        event[name] = _redacted(name, value)
    return event


def _redacted(name: str, value: object) -> object:
    """Nested values too: a secret may lie in a header map."""
    lower = name.lower().replace("-", "_")
    if (lower in _SECRET_FIELDS or lower.endswith(_SECRET_ENDINGS)) and value:
        return _MASK
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, Mapping):
        return {str(key): _redacted(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted("", item) for item in value]
    if isinstance(value, bool | int | float) or value is None:
        return value
    return masked(str(value))


def masked(text: str) -> str:
    """The text without known secrets and credentials, as a log line would show it."""
    for secret in _hidden:
        if secret in text:
            text = text.replace(secret, _MASK)
    if "~" in text or "earer" in text.lower():
        text = _CREDENTIALS.sub(lambda found: f"{found[1] or found[2]}{_MASK}", text)
    return text


def _render_json(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    ordered = {
        "time": event.pop("timestamp", ""),
        "level": event.pop("level", ""),
        "event": event.pop("event", ""),
        **event,
    }
    return orjson.dumps(ordered, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _render_console(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    time = str(event.pop("timestamp", ""))[11:23]
    level = str(event.pop("level", ""))
    text = _printable(str(event.pop("event", "")))
    role = str(event.pop("role", ""))
    slot = event.pop("slot", None)
    trace = str(event.pop("exception", ""))
    name = str(event.pop("component", ""))
    who = role if slot is None else f"{role}-{slot}"
    fields = " ".join(f"{key}={_shown(value)}" for key, value in event.items())
    line = f"{time} {level:<7} {who:<10} {name}: {text}"
    if fields:
        line += "  " + fields
    if trace:
        line += "".join(f"\n    | {_printable(row)}" for row in trace.splitlines())
    return line


def _shown(value: object) -> str:
    if isinstance(value, str):
        plain = _printable(value)
        return f'"{plain}"' if " " in plain or not plain else plain
    if isinstance(value, float):
        return f"{value:.6g}"
    return _printable(str(value))


def _printable(text: str) -> str:
    """Control characters are spelled out: a stranger's text starts no line and moves no cursor."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
