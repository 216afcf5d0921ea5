"""Finds the services: there is no list to add one to.

A service is a folder `services/<domain>/<name>` whose module `service.py` declares `SERVICE`. Names
with a leading underscore are not domains. Order is by path, so that it is the same everywhere.
"""

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from ops.migrate import Folder, Schema
from services._kit.service import Service

HOME: Final = Path(__file__).parent.parent
"""The folder `services`."""
_KERNELS: Final = ("_kit", "_events", "_jobs")


def load_all(only: Iterable[str] = ()) -> tuple[Service, ...]:
    """Every service, or those of these names. Raises ValueError: an unknown or doubled name."""
    wanted = set(only)
    found: dict[str, Service] = {}
    for root in (HOME,):
        for path in sorted(Path(root).glob("[a-z]*/[a-z]*/service.py")):
            domain, name = path.parts[-3:-1]
            if wanted and name.replace("_", "-") not in wanted:
                continue
            declared = importlib.import_module(f"services.{domain}.{name}.service").SERVICE
            assert isinstance(declared, Service), f"{path}: SERVICE is no Service"
            if declared.schema != name:
                raise ValueError(f"{domain}/{name}: the service's name is {declared.name}")
            if declared.name in found:
                raise ValueError(f"two services have the name {declared.name}")
            found[declared.name] = declared
    unknown = wanted - found.keys()
    if unknown:
        raise ValueError(f"there is no service {', '.join(sorted(unknown))}")
    return tuple(found.values())


def schemas(of: Iterable[Service]) -> tuple[Schema, ...]:
    """What `ops/migrate.py` makes of them: the bus, and each service's tables and the kernels'."""
    home = HOME
    bus = Schema("bus", (Folder("bus", home / "_bus/migrations"),))
    kernels = tuple(Folder(name.removeprefix("_"), home / name / "migrations") for name in _KERNELS)
    made = (
        Schema(service.schema, (*kernels, Folder(service.schema, service.folder / "migrations")))
        for service in of
    )
    return (bus, *made)
