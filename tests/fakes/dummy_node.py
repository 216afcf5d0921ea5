"""A supervisor over dummy children, in a process of its own: `python -m tests.fakes.dummy_node
JSON`.

JSON: {"run_dir": path, "http": "127.0.0.1:0", "udp": 0, "children": [[name, kind, essential], …],
"stop_seconds": 5, "hang_seconds": 0}. Children named edge-N get a listening socket and one end of a
link, media-0 the UDP socket and the other ends. Prints one line of JSON with the real ports when
ready.
"""

import asyncio
import json
import sys
from pathlib import Path

from ops import listeners, log, metrics
from ops.run_dir import RunDir
from ops.supervisor import Child, Supervisor


async def _run(plan: dict[str, object]) -> int:
    log.configure(log.LogSettings(format="json"), role="supervisor")
    rows = list(plan["children"])
    hang_seconds = float(str(plan.get("hang_seconds", 0)))
    edges = [name for name, *_ in rows if name.startswith("edge")]
    with RunDir(Path(str(plan["run_dir"]))) as directory:
        http, shown = listeners.tcp_slots([str(plan["http"])], slots=len(edges), backlog=128)
        udp = listeners.udp_ports("127.0.0.1", int(str(plan["udp"])), count=1, ipv6=False)
        links = [listeners.link() for _ in edges]
        metrics.start(directory.path / "metrics", "supervisor-0")
        children = []
        for name, kind, essential in rows:
            sockets = {}
            slot = int(name.rpartition("-")[2])
            if name.startswith("edge"):
                sockets = {"http": http[slot], "media": [links[slot][0]]}
            elif name.startswith("media"):
                sockets = {"udp": udp, "media": [media for _, media in links]}
            command = (sys.executable, "-m", "tests.fakes.dummy_role", kind)
            child = Child(
                name,
                command,
                slot=slot,
                sockets=sockets,
                essential=essential,
                reloads=name.startswith("edge"),
            )
            children.append(child)

        def ready() -> None:
            facts = {"http": shown, "udp": udp[0].getsockname()[1], "children": supervisor.pids()}
            sys.stdout.write(json.dumps(facts) + "\n")
            sys.stdout.flush()

        supervisor = Supervisor(
            children,
            run_dir=directory,
            settings={"metrics": str(directory.path / "metrics"), "hang_seconds": hang_seconds},
            facts={"http": shown},
            stop_seconds=float(str(plan.get("stop_seconds", 5))),
            hang_seconds=hang_seconds,
            on_ready=ready,
        )
        return await supervisor.run()


if __name__ == "__main__":
    sys.exit(asyncio.run(_run(json.loads(sys.argv[1]))))
