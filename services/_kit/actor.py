"""Who asks, and what they may do: made by whoever verified the credential, never by a service."""

from dataclasses import dataclass, field
from typing import Literal

from ops.errors import Rejected

ActorKind = Literal["user", "service", "job", "anonymous"]


class Forbidden(Rejected):
    """The actor is known, and lacks a permission."""

    code = "auth.forbidden"


@dataclass(frozen=True, slots=True)
class Actor:
    """One principal in one tenant.

    `permissions` are the expanded set of what roles grant, `service.resource.verb`; a trailing
    `.*` grants all below.
    """

    id: str
    tenant: str
    kind: ActorKind = "user"
    permissions: frozenset[str] = frozenset()
    session: str = ""
    on_behalf_of: str = ""
    address: str = field(default="", repr=False)
    trace: str = ""
    """The W3C `traceparent` that the request carries on."""

    def may(self, permission: str) -> bool:
        """Whether the permission is granted, by itself or by `service.resource.*`, `service.*`."""
        granted = self.permissions
        if permission in granted or "*" in granted:
            return True
        parts = permission.split(".")
        return any(".".join(parts[:end]) + ".*" in granted for end in range(1, len(parts)))

    def check(self, permission: str) -> None:
        """Raises Forbidden."""
        if not self.may(permission):
            raise Forbidden(
                "this needs a permission that you do not have", fields={"permission": permission}
            )


ANONYMOUS = Actor(id="", tenant="", kind="anonymous")
