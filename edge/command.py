"""The subcommands of `nexus`, but for children's `serve`: parsing, settings, what each prints.

Exit codes and the list of commands stand in `edge/main.py`.
"""

import argparse
import asyncio
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from edge import access, family, roles
from edge.settings import Settings
from ops import run_dir, settings_pages
from ops.errors import NexusError, Rejected
from ops.inherited import Inherited
from ops.listeners import ListenError, split_host_port, tcp_slots
from ops.migrate import MigrationError
from ops.node import Role
from ops.region_settings import check_regions
from ops.run_dir import RunDirError
from ops.settings import Loaded, SettingsError, load, split_flags
from ops.state.errors import StateError
from ops.supervisor import EXIT_FAILED, EXIT_OK, EXIT_SETTINGS

DEFAULT_FILE: Final = Path("nexus.toml")
_PAGES: Final = {
    "metrics": "print the reference page of all metrics",
    "dashboard": "print the Grafana dashboard",
    "alerts": "print the alerts for Prometheus",
}
ROLES: Final = ("edge", "media", "state", "worker", "demo", "supervisor")


def run(arguments: Sequence[str]) -> int:
    """Runs one command; its exit code."""
    try:
        return _run(arguments)
    except SettingsError as fault:
        _complain("settings cannot be used:", *fault.problems)
    except (ListenError, RunDirError, StateError, MigrationError) as fault:
        _complain(fault.message)
    except BrokenPipeError:
        # Whoever read our output has gone: `nexus settings | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except KeyboardInterrupt:
        return EXIT_FAILED
    return EXIT_SETTINGS


def _run(arguments: Sequence[str]) -> int:
    flags, others = split_flags(arguments)
    chosen = _parser().parse_args(others)
    if chosen.command == "version":
        _say(f"nexus {version()}\n")
        return EXIT_OK
    loaded = load(Settings, file=_file(chosen.config), environment=os.environ, flags=flags)
    return _COMMANDS[chosen.command](loaded, chosen)


def version() -> str:
    """The installed version; "unknown" when the tree was never installed."""
    try:
        return importlib.metadata.version("nexus-cos")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--config", type=Path, metavar="PATH", help="settings file (default: ./nexus.toml if there)"
    )
    parser = argparse.ArgumentParser(
        prog="nexus",
        description="Nexus COS: live video in by WHIP, out by WHEP and LL-HLS.",
        epilog="Any setting may be given as --section.field=value; see nexus settings.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up = commands.add_parser("up", parents=[common], help="start a node and keep it running")
    up.add_argument(
        "--demo",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="publish a moving picture to it (default: what node.roles says)",
    )
    up.add_argument("--region", help="the node's region, such as eu1 (default: node.region)")
    serve = commands.add_parser("serve", parents=[common], help="run one role, for debugging")
    serve.add_argument("role", choices=ROLES)
    doctor = commands.add_parser("doctor", parents=[common], help="look at this machine")
    doctor.add_argument("--json", action="store_true", help="for programs")
    commands.add_parser("migrate", parents=[common], help="bring all schemas up to date")
    _add_jobs(commands.add_parser("jobs", help="dead jobs: list, try again"), common)
    _add_events(commands.add_parser("events", help="dead events: list, try again"), common)
    demo = commands.add_parser("demo", parents=[common], help="publish a moving picture by WHIP")
    demo.add_argument("--url", help="server or WHIP address (default: the node set up here)")
    demo.add_argument("--stream", help="name of the stream")
    demo.add_argument("--key", help="bearer key; better in NEXUS_DEMO_KEY, which others cannot see")
    new = commands.add_parser("new", parents=[common], help="write a new business service")
    new.add_argument("service", metavar="DOMAIN/NAME", help="such as commerce/loyalty")
    token = commands.add_parser("token", parents=[common], help="mint a bearer token")
    token.add_argument("--tenant", required=True, help="for which tenant it is")
    token.add_argument("--subject", default="operator", help="whose it is (default: operator)")
    token.add_argument("--permissions", default="", help="what it opens, separated by commas")
    token.add_argument("--plan", default="", help="its plan, for limits")
    token.add_argument("--seconds", type=int, default=3_600, help="how long it lasts (3600)")
    settings = commands.add_parser("settings", parents=[common], help="print effective settings")
    form = settings.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="the reference page")
    form.add_argument("--sample", action="store_true", help="a file to start from")
    for name, text in _PAGES.items():
        commands.add_parser(name, parents=[common], help=text)
    # `edge/main.py` takes it before this parser does; here it is for the help alone.
    commands.add_parser("bench", help="load generators: nexus bench webrtc|hls --help")
    commands.add_parser("version", parents=[common], help="print the version")
    return parser


def _add_jobs(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    dead = verbs.add_parser("dead", parents=[common], help="list dead jobs, the last first")
    dead.add_argument("--json", action="store_true", help="for programs, an object a line")
    replay = verbs.add_parser("replay", parents=[common], help="try dead jobs again")
    for verb in (dead, replay):
        verb.add_argument("--service", default="", required=verb is replay, help="its name")
        verb.add_argument("--job", default="", help="of this name alone")
    replay.add_argument("--id", default="", help="this one alone")


def _add_events(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    dead = verbs.add_parser("dead", parents=[common], help="list dead events, the first first")
    dead.add_argument("--json", action="store_true", help="for programs, an object a line")
    replay = verbs.add_parser("replay", parents=[common], help="try dead events again")
    replay.add_argument("--id", default="", help="this one alone")
    discard = verbs.add_parser("discard", parents=[common], help="give a dead event up")
    discard.add_argument("--id", required=True, help="which")
    for verb in (dead, replay, discard):
        verb.add_argument("--service", required=True, help="who could not handle it")


def _file(named: Path | None) -> Path | None:
    """The settings file: named, or in the environment, or in this folder."""
    if named is not None:
        return named
    variable = os.environ.get("NEXUS_CONFIG")
    if variable:
        return Path(variable)
    return DEFAULT_FILE if DEFAULT_FILE.is_file() else None


def _up(loaded: Loaded[Settings], chosen: argparse.Namespace) -> int:
    settings = loaded.settings
    wanted: list[Role] = [role for role in settings.node.roles if role != "demo"]
    demo = getattr(chosen, "demo", None)
    if demo or (demo is None and "demo" in settings.node.roles):
        wanted.append("demo")
    region = getattr(chosen, "region", None) or settings.node.region
    settings = replace(settings, node=replace(settings.node, roles=tuple(wanted), region=region))
    access.check_start(settings)
    check_regions(settings.regions, region)
    roles.configure_log(settings, "supervisor", None)

    def say_ready(effective: Settings) -> None:
        _say(family.banner(effective))

    with asyncio.Runner() as runner:
        return runner.run(family.run_node(settings, say_ready))


def _serve(loaded: Loaded[Settings], chosen: argparse.Namespace) -> int:
    if chosen.role == "supervisor":
        return _up(loaded, chosen)
    return _serve_alone(chosen.role, loaded.settings)


def _serve_alone(role: str, settings: Settings) -> int:
    """A role without supervisor: it binds for itself. Edge and media then hear nothing of each
    other, but share the run directory and so the HLS files.

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
    return roles.serve(role, settings, given)


def _migrate(loaded: Loaded[Settings], _chosen: argparse.Namespace) -> int:
    """Against servers that run: those of a node, or yours. Raises StateError, MigrationError."""
    from edge import migrations  # noqa: PLC0415

    roles.configure_log(loaded.settings, "migrate", None)
    count = asyncio.run(migrations.run(loaded.settings))
    _say(f"all schemas are up to date: {count} files ran\n")
    return EXIT_OK


def _jobs(loaded: Loaded[Settings], chosen: argparse.Namespace) -> int:
    """Against the database of a node that runs, or yours."""
    from edge import jobs_command  # noqa: PLC0415

    roles.configure_log(loaded.settings, "jobs", None)
    try:
        asyncio.run(jobs_command.run(loaded.settings, chosen))
    except (NexusError, ValueError) as fault:
        _complain(str(fault))
        return EXIT_FAILED
    return EXIT_OK


def _events(loaded: Loaded[Settings], chosen: argparse.Namespace) -> int:
    """Likewise."""
    from edge import events_command  # noqa: PLC0415

    roles.configure_log(loaded.settings, "events", None)
    try:
        asyncio.run(events_command.run(loaded.settings, chosen))
    except (NexusError, ValueError) as fault:
        _complain(str(fault))
        return EXIT_FAILED
    return EXIT_OK


def _demo(loaded: Loaded[Settings], chosen: argparse.Namespace) -> int:
    demo = loaded.settings.demo
    if chosen.stream is not None:
        demo = replace(demo, stream=chosen.stream)
    if chosen.key is not None:
        demo = replace(demo, key=chosen.key)
    if chosen.url is not None:
        demo = replace(demo, url=whip_address(chosen.url, stream=demo.stream))
    settings = replace(loaded.settings, demo=demo)
    roles.configure_log(settings, "demo", None)
    from edge.demo import publisher  # noqa: PLC0415

    return roles.run_stoppable(lambda: publisher.run(settings))


def whip_address(url: str, *, stream: str) -> str:
    """A WHIP address from a server's address or from one that is whole. Raises SettingsError."""
    try:
        parts = urlsplit(url)
    except ValueError as fault:
        raise SettingsError(f"--url: {fault}") from fault
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise SettingsError("--url: write http://host:port or a whole WHIP address")
    if parts.path in {"", "/"}:
        return f"{parts.scheme}://{parts.netloc}/whip/{stream}"
    return url


def _token(loaded: Loaded[Settings], chosen: argparse.Namespace) -> int:
    from edge import token_keys  # noqa: PLC0415

    try:
        made = token_keys.mint(
            loaded.settings,
            tenant=chosen.tenant,
            subject=chosen.subject,
            permissions=chosen.permissions,
            plan=chosen.plan,
            seconds=chosen.seconds,
        )
    except (Rejected, OSError) as fault:
        _complain(str(fault))
        return EXIT_SETTINGS
    _say(f"{made}\n")
    return EXIT_OK


def _new(_loaded: Loaded[Settings], chosen: argparse.Namespace) -> int:
    from edge import new_service  # noqa: PLC0415

    try:
        made = new_service.write(Path.cwd(), chosen.service)
    except new_service.NewServiceError as fault:
        _complain(str(fault))
        return EXIT_SETTINGS
    _say("".join(f"{path.relative_to(Path.cwd())}\n" for path in made))
    return EXIT_OK


def _doctor(loaded: Loaded[Settings], chosen: argparse.Namespace) -> int:
    from edge import doctor  # noqa: PLC0415

    findings = doctor.examine(loaded.settings)
    _say(doctor.as_json(findings) if chosen.json else doctor.as_text(findings))
    return EXIT_FAILED if doctor.is_ill(findings) else EXIT_OK


def _settings(loaded: Loaded[Settings], chosen: argparse.Namespace) -> int:
    if chosen.markdown:
        _say(settings_pages.markdown(Settings))
    elif chosen.sample:
        _say(settings_pages.sample(Settings))
    else:
        _say(settings_pages.table(loaded))
    return EXIT_OK


def _page(_loaded: Loaded[Settings], chosen: argparse.Namespace) -> int:
    """What operators import or read, made of the code: imported when asked for."""
    modules = {
        "metrics": "edge.metrics_page",
        "dashboard": "ops.dashboards.grafana",
        "alerts": "ops.dashboards.alerts",
    }
    _say(importlib.import_module(modules[chosen.command]).document())
    return EXIT_OK


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _complain(first: str, *more: str) -> None:
    lines = "".join(f"  {line}\n" for line in more)
    sys.stderr.write(f"nexus: {first}\n{lines}")


_COMMANDS: Final = {
    "up": _up,
    "serve": _serve,
    "migrate": _migrate,
    "jobs": _jobs,
    "events": _events,
    "demo": _demo,
    "token": _token,
    "new": _new,
    "doctor": _doctor,
    "settings": _settings,
    **dict.fromkeys(_PAGES, _page),
}
