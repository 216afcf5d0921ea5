"""Which data may leave which region: one question, asked by whoever carries data across.

Every column has a data class, every tenant a residency. `may_leave` is asked by the relay of
events, webhooks, exports, backups, and by the door that would pass a request on. It is a pure
function; who refuses also says so in the audit log.

    class         open        bound       sealed
    public        anywhere    anywhere    anywhere
    operational   anywhere    anywhere    allowed
    media         anywhere    allowed     allowed
    personal      anywhere    allowed     allowed
    payment       allowed     allowed     home
    sensitive     allowed     home        home

*allowed*: the tenant's home and the regions that its placement names; *home*: the home alone.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final, Literal


class DataClass(StrEnum):
    """What kind of data a column holds."""

    PUBLIC = "public"
    OPERATIONAL = "operational"
    PERSONAL = "personal"
    SENSITIVE = "sensitive"
    PAYMENT = "payment"
    MEDIA = "media"


class Residency(StrEnum):
    """How strictly a tenant's data stays where it is."""

    OPEN = "open"
    BOUND = "bound"
    SEALED = "sealed"


Reach = Literal["anywhere", "allowed", "home"]

REACH: Final[Mapping[Residency, Mapping[DataClass, Reach]]] = {
    Residency.OPEN: {
        DataClass.PUBLIC: "anywhere",
        DataClass.OPERATIONAL: "anywhere",
        DataClass.MEDIA: "anywhere",
        DataClass.PERSONAL: "anywhere",
        DataClass.PAYMENT: "allowed",
        DataClass.SENSITIVE: "allowed",
    },
    Residency.BOUND: {
        DataClass.PUBLIC: "anywhere",
        DataClass.OPERATIONAL: "anywhere",
        DataClass.MEDIA: "allowed",
        DataClass.PERSONAL: "allowed",
        DataClass.PAYMENT: "allowed",
        DataClass.SENSITIVE: "home",
    },
    Residency.SEALED: {
        DataClass.PUBLIC: "anywhere",
        DataClass.OPERATIONAL: "allowed",
        DataClass.MEDIA: "allowed",
        DataClass.PERSONAL: "allowed",
        DataClass.PAYMENT: "home",
        DataClass.SENSITIVE: "home",
    },
}


def may_leave(
    data: DataClass, residency: Residency, *, home: str, to: str, regions: Iterable[str] = ()
) -> bool:
    """Whether data of this class of a tenant at home in `home` may be in the region `to`.

    regions: those that the tenant's placement names beside its home.
    """
    if to == home:
        return True
    reach = REACH[residency][data]
    return reach == "anywhere" or (reach == "allowed" and to in set(regions))
