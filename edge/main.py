"""The command `nexus`, and the composition root: the one module that may import everything.

    nexus up [--demo | --no-demo] [--region REGION]   starts a node and keeps it running
    nexus serve ROLE                  one role, for debugging; the supervisor starts children so
    nexus migrate                     brings all schemas up to date
    nexus jobs dead | replay          jobs that were given up: lists them, tries them again
    nexus events dead | replay | discard   likewise, events that a service could not handle
    nexus demo [--url --stream --key] publishes a moving picture to any WHIP server
    nexus token --tenant T [--permissions A,B]   mints a bearer token for the gateway
    nexus doctor [--json]             looks at this machine and says what to do
    nexus settings [--markdown | --sample]
    nexus metrics | dashboard | alerts   a reference, and what Grafana and Prometheus take
    nexus bench webrtc|hls            load generators; see docs/benchmarks.md
    nexus version

Any setting may be given as `--section.field=value`. Exit codes: 0 a clean end; 1 something failed,
or the doctor found a fault; 2 settings, an address, the run directory or state cannot be used; 70 a
child found its supervisor gone. Commands are `edge/command.py`, a role's process `edge/roles.py`, a
node `edge/family.py`; they are imported when they are needed, so that a restarted child is back
sooner.
"""

import sys
from collections.abc import Sequence

from ops import inherited


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; its exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words[:1] == ["serve"]:
        handed = inherited.take()
        if handed is not None:
            from edge import roles  # noqa: PLC0415

            return roles.serve_child(words[1], handed)
    if words[:1] == ["bench"]:
        from benchmarks import command as bench  # noqa: PLC0415

        return bench.run(words[1:])
    from edge import command  # noqa: PLC0415

    return command.run(words)


if __name__ == "__main__":
    sys.exit(main())
