"""Where settings come from, which source wins, and what is said about wrong ones."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from ops import settings_pages
from ops.settings import (
    Loaded,
    SettingsError,
    entries,
    from_plain,
    load,
    secret_values,
    setting,
    split_flags,
    to_plain,
)


@dataclass(frozen=True, slots=True)
class Key:
    name: str
    secret: str = setting("", "Its secret.", secret=True)
    uses: int = setting(0, "How often.", min=0, max=9)


@dataclass(frozen=True, slots=True)
class Web:
    """What the web side does."""

    listen: tuple[str, ...] = setting(("127.0.0.1:8080",), "Addresses.")
    workers: int = setting(0, "Processes.", min=0, max=64)
    wait_seconds: float = setting(1.5, "Patience in seconds.", min=0.1)
    fast: bool = setting(default=True, help="Whether to hurry.")
    mode: Literal["plain", "fancy"] = setting("plain", "How it looks.")
    folder: Path = setting(Path(), "Where files lie.")
    limit: int | None = setting(None, "A limit, or none.", min=1)
    keys: tuple[Key, ...] = setting((), "Keys.")
    names: dict[str, int] = setting({}, "Numbers by name.")
    password: str = setting("", "A password.", secret=True)

    def __post_init__(self) -> None:
        if self.mode == "fancy" and not self.fast:
            raise ValueError("mode: fancy needs fast")


@dataclass(frozen=True, slots=True)
class Root:
    web: Web = field(default_factory=Web)


def problems(**sources: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        load(Root, **sources)
    return "\n".join(caught.value.problems)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "nexus.toml"
    path.write_text(text)
    return path


def test_the_later_source_wins(tmp_path: Path) -> None:
    file = write(tmp_path, "[web]\nworkers = 1\nwait_seconds = 2\nmode = 'fancy'\n")
    loaded = load(
        Root,
        file=file,
        environment={"NEXUS_WEB_WORKERS": "2", "NEXUS_WEB_WAIT_SECONDS": "3", "HOME": "x"},
        flags={"web.workers": "3"},
    )
    web = loaded.settings.web
    assert (web.workers, web.wait_seconds, web.mode, web.fast) == (3, 3.0, "fancy", True)
    assert loaded.origins["web.workers"] == "--web.workers"
    assert loaded.origins["web.wait_seconds"] == "NEXUS_WEB_WAIT_SECONDS"
    assert loaded.origins["web.mode"] == f"{file}:4"
    assert loaded.origins["web.fast"] == "default"


def test_every_type_from_text() -> None:
    web = load(
        Root,
        environment={
            "NEXUS_WEB_LISTEN": "a:1, [::1]:2",
            "NEXUS_WEB_FAST": "off",
            "NEXUS_WEB_FOLDER": "/srv/x",
            "NEXUS_WEB_LIMIT": "7",
            "NEXUS_WEB_KEYS": '[{"name": "k", "secret": "hush", "uses": 2}]',
            "NEXUS_WEB_NAMES": '{"a": 1}',
        },
    ).settings.web
    assert web.listen == ("a:1", "[::1]:2")
    assert web.fast is False
    assert web.folder == Path("/srv/x")
    assert web.limit == 7
    assert web.keys == (Key("k", "hush", 2),)
    assert web.names == {"a": 1}
    assert load(Root, environment={"NEXUS_WEB_LISTEN": '["c:3"]'}).settings.web.listen == ("c:3",)
    assert load(Root, environment={"NEXUS_WEB_LIMIT": ""}).settings.web.limit is None


def test_every_type_from_a_file(tmp_path: Path) -> None:
    text = """
[web]
listen = ["a:1"]
folder = "here"
wait_seconds = 2
[[web.keys]]
name = "k"
uses = 3
[web.names]
a = 4
"""
    web = load(Root, file=write(tmp_path, text)).settings.web
    assert (web.listen, web.folder, web.wait_seconds) == (("a:1",), Path("here"), 2.0)
    assert web.keys == (Key("k", "", 3),)
    assert web.names == {"a": 4}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("workers = '3'", "nexus.toml:2: web.workers: '3' is not a whole number"),
        ("workers = true", "web.workers: True is not a whole number"),
        ("workers = 3.5", "web.workers: 3.5 is not a whole number"),
        ("workers = 65", "web.workers: 65 is above 64"),
        ("wait_seconds = nan", "web.wait_seconds: nan is not a number"),
        ("fast = 1", "web.fast: 1 is not true or false"),
        ("listen = 'a:1'", "web.listen: str is not a list"),
        ("listen = ['a', 2]", "web.listen: item 2: 2 is not a text"),
        ("mode = 'fanzy'", "web.mode: 'fanzy' is none of plain, fancy; did you mean fancy?"),
        ("wrkers = 3", "nexus.toml:2: there is no setting web.wrkers; did you mean web.workers?"),
        ("keys = [{nam = 'x'}]", "web.keys: item 1: there is no field nam; did you mean name?"),
        ("keys = [{uses = 1}]", "web.keys: item 1: missing 1 required"),
        ("keys = [{name = 'x', uses = 10}]", "web.keys: item 1: uses: 10 is above 9"),
        ("limit = 0", "web.limit: 0 is below 1"),
        ("mode = 'fancy'\nfast = false", "[web]: mode: fancy needs fast"),
    ],
)
def test_a_wrong_line_is_told_with_its_place(tmp_path: Path, line: str, said: str) -> None:
    assert said in problems(file=write(tmp_path, f"[web]\n{line}\n"))


def test_unknown_sections_variables_and_flags_are_refused_with_a_hint(tmp_path: Path) -> None:
    said = problems(
        file=write(tmp_path, "[wbe]\nx = 1\n"),
        environment={"NEXUS_WEB_WORKER": "1", "NEXUS_PROVE": "1"},
        flags={"web.listn": "x"},
    )
    assert "nexus.toml:1: there is no section [wbe]; did you mean [web]?" in said
    assert "NEXUS_WEB_WORKER: there is no such setting; did you mean NEXUS_WEB_WORKERS?" in said
    assert "--web.listn: there is no such setting; did you mean --web.listen?" in said
    assert "PROVE" not in said


def test_all_faults_are_told_at_once() -> None:
    said = problems(environment={"NEXUS_WEB_WORKERS": "x", "NEXUS_WEB_FAST": "maybe"})
    assert "NEXUS_WEB_WORKERS: web.workers: 'x' is not a whole number" in said
    assert "NEXUS_WEB_FAST: web.fast: 'maybe' is not true or false" in said


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert "No such file" in problems(file=tmp_path / "missing.toml")
    assert "line 2" in problems(file=write(tmp_path, "[web]\nworkers = \n"))
    assert "is a section" in problems(file=write(tmp_path, "web = 3\n"))


def test_flags_are_taken_out_of_the_command_line() -> None:
    flags, others = split_flags(["up", "--web.listen=a:1", "--demo", "--web.workers", "2", "-x"])
    assert flags == {"web.listen": "a:1", "web.workers": "2"}
    assert others == ["up", "--demo", "-x"]
    with pytest.raises(SettingsError, match="a value is missing"):
        split_flags(["--web.workers", "--demo"])


def test_secrets_are_never_shown() -> None:
    keys = '[{"name": "k", "secret": "hush-hush"}]'
    loaded = load(Root, environment={"NEXUS_WEB_KEYS": keys}, flags={"web.password": "sesame!"})
    for page in (settings_pages.table(loaded), settings_pages.markdown(Root)):
        assert "hush" not in page
        assert "sesame" not in page
    assert settings_pages.table(loaded).count("***") == 2
    assert sorted(secret_values(loaded.settings)) == ["hush-hush", "sesame!"]
    broken = problems(environment={"NEXUS_WEB_KEYS": '[{"name": "k", "secret": "hush-hush"'})
    assert "hush" not in broken
    wrong = problems(environment={"NEXUS_WEB_KEYS": '[{"name": "k", "secret": 12345678}]'})
    assert "1234" not in wrong


def test_settings_survive_being_handed_over() -> None:
    given = load(
        Root,
        environment={
            "NEXUS_WEB_KEYS": '[{"name": "k", "secret": "hush", "uses": 2}]',
            "NEXUS_WEB_FOLDER": "/srv/x",
        },
    ).settings
    assert from_plain(Root, json.loads(json.dumps(to_plain(given)))) == given
    assert from_plain(Root, to_plain(Root())) == Root()


def test_the_sample_file_changes_nothing(tmp_path: Path) -> None:
    sample = settings_pages.sample(Root)
    assert load(Root, file=write(tmp_path, sample)).settings == Root()
    without_nothing = [
        line.removeprefix("#") if line.startswith("#") and " = " in line else line
        for line in sample.splitlines()
        if not line.startswith("#limit")
    ]
    taken = "\n".join(line for line in without_nothing if not line.startswith("# "))
    loaded: Loaded[Root] = load(Root, file=write(tmp_path, taken))
    assert loaded.settings == Root()
    assert {origin for name, origin in loaded.origins.items() if name != "web.limit"} != {"default"}


def test_a_setting_without_help_is_a_bug() -> None:
    @dataclass(frozen=True, slots=True)
    class Bare:
        x: int = 1

    @dataclass(frozen=True, slots=True)
    class Top:
        bare: Bare = field(default_factory=Bare)

    with pytest.raises(TypeError, match="has no help"):
        list(entries(Top))


@dataclass(frozen=True, slots=True)
class BusSettings:
    servers: str = setting("", "Servers.", variable="NEXUS_BUS")


@dataclass(frozen=True, slots=True)
class WithBus:
    bus: BusSettings = field(default_factory=BusSettings)


def test_a_setting_may_name_its_variable_itself() -> None:
    assert load(WithBus, environment={"NEXUS_BUS": "one"}).settings.bus.servers == "one"
    assert load(WithBus, flags={"bus.servers": "two"}).settings.bus.servers == "two"
    with pytest.raises(SettingsError, match="NEXUS_BUS_SERVERS: there is no such setting"):
        load(WithBus, environment={"NEXUS_BUS_SERVERS": "one"})
