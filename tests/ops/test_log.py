"""Log lines: their shape, what they never show, and that libraries' lines look the same."""

import io
import json
import logging
import sys
import warnings
from collections.abc import Iterator

import pytest
import structlog

from ops import log


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, hook = list(root.handlers), root.level, sys.excepthook
    yield
    root.handlers[:], sys.excepthook = handlers, hook
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


class Stream:
    """What was written to standard error."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._text = ""

    def getvalue(self) -> str:
        self._text += self._capsys.readouterr().err
        return self._text


@pytest.fixture
def stream(capsys: pytest.CaptureFixture[str]) -> Stream:
    return Stream(capsys)


def configure(form: str = "json", level: str = "info") -> None:
    settings = log.LogSettings(level=level, format=form)  # type: ignore[arg-type]
    log.configure(settings, role="edge", fields={"slot": 1})


def test_json_is_one_object_a_line(stream: Stream) -> None:
    configure()
    log.get_logger("edge.test").bind(stream="show").info("two\nlines", count=3)
    (line,) = stream.getvalue().splitlines()
    event = json.loads(line)
    assert event["event"] == "two\nlines"
    assert event["level"] == "info"
    assert event["time"].endswith("Z")
    assert {key: event[key] for key in ("component", "role", "slot", "stream", "count")} == {
        "component": "edge.test",
        "role": "edge",
        "slot": 1,
        "stream": "show",
        "count": 3,
    }


def test_levels_below_are_dropped(stream: Stream) -> None:
    configure(level="warning")
    log.get_logger("x").info("quiet")
    log.get_logger("x").warning("loud")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["loud"]


@pytest.mark.parametrize("form", ["json", "console"])
def test_secrets_are_masked(stream: Stream, form: str) -> None:
    configure(form)
    log.hide("open-sesame")
    log.get_logger("x").info(
        "a request with Bearer abc.def-ghi",
        token="hush1",
        stream_key="hush2",
        headers={"Authorization": "hush3", "Accept": "ok"},
        path="/hls/~hush4/show/live.m3u8",
        note="he said open-sesame",
        rows=[{"password": "hush5"}],
    )
    text = stream.getvalue()
    for secret in ("hush", "abc.def", "open-sesame"):
        assert secret not in text
    assert "/show/live.m3u8" in text
    assert "ok" in text


def test_a_secret_in_a_traceback_is_masked(stream: Stream) -> None:
    configure()
    log.hide("open-sesame")
    log.get_logger("x").error("failed", exc_info=ValueError("bad key open-sesame"))
    event = json.loads(stream.getvalue())
    assert "ValueError: bad key ***" in event["exception"]


def test_a_strangers_text_starts_no_line_on_a_terminal(stream: Stream) -> None:
    configure("console")
    log.get_logger("x").info("hello\nforged line", agent="a\x1b[2Jb\r\nc")
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()


def test_libraries_and_warnings_come_out_alike(stream: Stream) -> None:
    configure()
    logging.getLogger("aiohttp.server").warning("odd %s", "thing")
    logging.getLogger("aiohttp.server").info("chatter")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old way", DeprecationWarning, stacklevel=1)
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["component"], first["message"], first["role"]) == (
        "aiohttp.server",
        "odd thing",
        "edge",
    )
    assert "old way" in second["message"]


def test_the_last_words_of_a_process_are_a_line(stream: Stream) -> None:
    configure()
    error = RuntimeError("the end")
    sys.excepthook(RuntimeError, error, None)
    event = json.loads(stream.getvalue())
    assert event["level"] == "critical"
    assert "the end" in event["exception"]


def test_a_log_that_nobody_reads_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Broken())
    configure()
    log.get_logger("x").error("nobody hears")
