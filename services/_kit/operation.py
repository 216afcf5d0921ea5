"""A route with its handler's signature read: what OpenAPI, GraphQL and `call.py` work from.

Reading signatures is slow and happens once, when the services are loaded.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, get_args, get_origin

from services._kit.paging import Slice
from services._kit.record import Page
from services._kit.service import Route, Service, hints_of

_PARAMETER: Final = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True, slots=True)
class Operation:
    """One route of one service, ready to be called."""

    service: Service
    route: Route
    path: str
    """Whole: `/v1/<service>` and the route's."""
    parameters: tuple[tuple[str, Any], ...]
    """Names and types of the path's parameters."""
    body: type[Any] | None
    query: type[Any] | None
    paged: bool
    """Whether the handler takes a `page`."""
    takes: frozenset[str]
    """Names of all that the handler takes."""
    result: Any
    """What it returns: a Record's type, Page[Record], None or WireResponse."""
    location: str = ""
    """Where what it makes is read afterwards, `/v1/…/guests/{}`; "": nowhere."""

    @property
    def name(self) -> str:
        """Unique among all services: `guest-list.invite`."""
        return f"{self.service.name}.{self.route.operation}"

    @property
    def creates(self) -> bool:
        """Whether it makes something that can be read afterwards."""
        return bool(self.location)

    @property
    def item(self) -> Any:
        """The type in a page, or the result itself."""
        return get_args(self.result)[0] if self.is_list else self.result

    @property
    def is_list(self) -> bool:
        return get_origin(self.result) is Page

    @property
    def fields(self) -> frozenset[str]:
        """Of the record that it answers, or lists; none: it answers no record of ours."""
        return (
            frozenset()
            if self.route.wire
            else frozenset(getattr(self.item, "__struct_fields__", ()))
        )


def operations(services: Iterable[Service]) -> list[Operation]:
    """All operations of these services."""
    return [_read(service, route) for service in services for route in service.routes]


def _read(service: Service, route: Route) -> Operation:
    hints = hints_of(route.handler)
    names = _PARAMETER.findall(route.path)
    result = hints["return"]
    makes = route.method == "POST" and ":" not in route.path
    assert hints.get("page", Slice) is Slice, route.path
    return Operation(
        service=service,
        route=route,
        path=service.prefix + route.path,
        parameters=tuple((name, hints[name]) for name in names),
        body=hints.get("body"),
        query=hints.get("query"),
        paged="page" in hints,
        takes=frozenset(hints.keys() - {"return"}),
        result=result,
        location=_location(service, result) if makes else "",
    )


def _location(service: Service, made: Any) -> str:
    """The route that reads one record of this type by its id alone."""
    for route in service.routes:
        shape, count = _PARAMETER.subn("{}", route.path)
        if route.reads and count == 1 and hints_of(route.handler)["return"] is made:
            return service.prefix + shape
    return ""
