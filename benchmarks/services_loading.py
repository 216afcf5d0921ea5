"""A fresh interpreter of `nexus bench services`: loads all services as an edge worker does, and
says as JSON how many they are and how long it took.

What any worker imports, with services or without, is not counted. OpenAPI and GraphQL are made when
somebody asks or after the start, so they are told apart.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from edge.gateway.plan import compiled
from edge.gateway.settings import GatewaySettings
from edge.graphql.engine import Engine
from edge.graphql.settings import GraphqlSettings
from edge.service_openapi import openapi
from edge.worker import Worker
from ops.db import Database
from ops.sealing import KeyRing
from services._kit.call import Runtime
from services._kit.load import load_all, schemas
from services._kit.operation import operations
from services.platform.backend_api.api import Config


class Times:
    """How long steps took, in milliseconds, and the CPU time of all of them in microseconds."""

    def __init__(self) -> None:
        self.told: dict[str, float] = {}

    def take(self, name: str, step: Callable[[], Any]) -> Any:
        """What the step gives."""
        began, cpu = time.perf_counter(), time.process_time()
        made = step()
        self.told[f"{name}_ms"] = (time.perf_counter() - began) * 1e3
        self.told[f"{name}_cpu_us"] = (time.process_time() - cpu) * 1e6
        return made


def main() -> Mapping[str, float]:
    """Loads them."""
    assert Worker.__name__, "what every worker imports is there"
    times = Times()
    with TemporaryDirectory() as folder:
        keys = KeyRing.from_file(Path(folder, "keys.json"))

        def load() -> tuple[Any, Any, Any]:
            services = load_all()
            known = operations(services)
            # It is asked nothing, so it needs no database.
            runtime = Runtime(cast(Database, None), services, region="eu1", keys=keys)
            compiled(Config(), known, GatewaySettings())
            schemas(services)
            return services, known, runtime

        services, known, runtime = times.take("load", load)
    times.take("openapi", lambda: openapi(known, version="1"))
    times.take("graphql", lambda: Engine(services, known, runtime, GraphqlSettings()))
    return {"services": len(services), "operations": len(known), **times.told}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main()) + "\n")
