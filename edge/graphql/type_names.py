"""What the structs of services are called in GraphQL: `Guest` of guest-list is `GuestListGuest`.

Always with the service before it, so that no service's types change their names because another
one comes. What no service owns is called after its module, `PlacementState`, and what the kit has
by its own name alone. Two types of one name are refused when the schema is made.
"""

from collections.abc import Sequence
from typing import Any, Final, get_args, get_origin

from edge.graphql.names import camel, pascal
from services._kit.record import Page
from services._kit.service import Service

_KIT: Final = "services._kit."


class TypeNames:
    """Gives out names, each once."""

    def __init__(self, services: Sequence[Service]) -> None:
        longest_first = sorted(services, key=lambda service: -len(service.package))
        self._packages = [(f"{service.package}.", service) for service in longest_first]
        self._given: dict[str, Any] = {}

    def struct(self, kind: Any, service: Service, *, suffix: str = "") -> str:
        """The name of a struct that an operation of the service mentions. Raises ValueError."""
        return self.claim(self._struct(kind, service) + suffix, (kind, suffix))

    def enum(self, kind: Any, service: Service, *, where: str) -> str:
        """An enumeration's; a Literal has no name, so it takes that of where it stands first."""
        if isinstance(kind, type):
            return self.claim(self._qualified(kind.__name__, kind, service), kind)
        return self.claim(f"{pascal(service.name)}{where}", (service.name, kind))

    def field(self, service: Service, operation: str) -> str:
        """A root field's: `invite` of guest-list is `guestListInvite`, `close_guest_list` is
        `guestListClose`, `guest_lists` is `guestLists`."""
        prefix, words = camel(service.name), camel(operation.removesuffix(f"_{service.schema}"))
        return words if words.startswith(prefix) else prefix + pascal(words)

    def prefix(self, service: Service) -> str:
        """What the names of a service's types begin with."""
        return pascal(service.name)

    def claim(self, name: str, owner: Any) -> str:
        """Raises ValueError when something else has that name."""
        if name.startswith("__"):
            raise ValueError(f"{name}: GraphQL keeps names with two underscores for itself")
        holder = self._given.setdefault(name, owner)
        if holder != owner:
            raise ValueError(f"two types are called {name}: {holder} and {owner}")
        return name

    def _struct(self, kind: Any, service: Service) -> str:
        origin, arguments = get_origin(kind) or kind, get_args(kind)
        if origin is Page:
            return self._argument(arguments[0], service) + "Page"
        plain = self._qualified(origin.__name__, origin, service)
        if not arguments:
            return plain
        return f"{plain}Of{'And'.join(self._argument(kind, service) for kind in arguments)}"

    def _argument(self, kind: Any, service: Service) -> str:
        if get_args(kind) or isinstance(kind, type):
            return self._struct(kind, service)
        return pascal(str(kind))

    def _qualified(self, name: str, kind: Any, service: Service) -> str:
        owner = self._owner(kind.__module__, service)
        if owner is None and kind.__module__.startswith(_KIT):
            return pascal(name)
        prefix = pascal(owner.name if owner else kind.__module__.rpartition(".")[2])
        return pascal(name) if pascal(name).startswith(prefix) else prefix + pascal(name)

    def _owner(self, module: str, service: Service) -> Service | None:
        if f"{module}.".startswith(f"{service.package}."):
            return service
        return next((owner for prefix, owner in self._packages if module.startswith(prefix)), None)
