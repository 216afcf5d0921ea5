"""What travels between a service and the world: records, inputs, ids and pages.

A `Record` is an answer, an `Input` what somebody sends: unknown fields of it are refused. Both are
frozen msgspec structs, so that one declaration validates, documents and encodes. Ids are plain
strings to Python, and typed for whoever reads the declaration:

    GuestId = Annotated[str, entity("gst", of="Guest")]

so that a malformed one is refused at the door, and the GraphQL side knows what it leads to.
Patterns are made by `shaped`, which means what JSON Schema means: `$` is the very end.
"""

import re
from typing import Annotated, Any, Final, Generic, TypeVar

import msgspec

from ops.frozen import Frozen

T = TypeVar("T")

ENTITY: Final = "x-nexus-entity"
"""Where an id's JSON schema names the entity it leads to."""
WHOLE: Final = r"(?!\n)"
SPACE: Final = r"\x00-\x20\x7f-\xa0\u1680\u2000-\u200f\u2028-\u202f\u205f\u3000\ufeff"
"""White space and control characters, for a class of a pattern: each language has its own `\\s`."""
_PREFIX: Final = re.compile(r"[a-z]{2,8}")
_ULID: Final = "[0-7][0-9a-hjkmnp-tv-z]{25}"
LIMIT_MAX: Final = 200
LIMIT_DEFAULT: Final = 50


class Record(Frozen):
    """An answer, or part of one."""


class Input(Frozen, forbid_unknown_fields=True):
    """A body or a query: what it does not declare is refused."""


def shaped(pattern: str, **more: Any) -> msgspec.Meta:
    """Text of this pattern (ECMA 262, whole: `^…$`). more: further constraints of `msgspec.Meta`.

    Python's `$` also matches before a line feed at the end, which a header field or a line of a
    file would then have; `WHOLE` after it does not, and JSON Schema may do without it.
    """
    assert pattern.startswith("^"), pattern
    assert pattern.endswith("$"), pattern
    assert not re.search(r"\\[dsw]", pattern), "which mean more to Python than to ECMA 262"
    return msgspec.Meta(pattern=pattern + WHOLE, **more)


def entity(prefix: str, *, of: str = "") -> msgspec.Meta:
    """The shape of ids with this prefix, `gst_eu1_01jz…`; `of`: which record they lead to."""
    assert _PREFIX.fullmatch(prefix), prefix
    return shaped(
        rf"^{prefix}_[a-z]{{2}}[0-9]{{1,3}}_{_ULID}$",
        max_length=len(prefix) + 33,
        extra_json_schema={ENTITY: of} if of else None,
        extra={"entity": of, "prefix": prefix},
    )


Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
"""A name or a line of text."""
TenantInPath = Annotated[
    str, shaped(r"^(?!\.{1,2}$)[^/\\\x00-\x1f\x7f]+$", min_length=1, max_length=256)
]
"""A tenant's name where a path names it: as paths have them, without slashes and dot segments."""


class Page(Record, Generic[T]):
    """A part of a list; `next_cursor` asks for the next, absent: this was the last."""

    data: tuple[T, ...]
    next_cursor: str | None = None


class Paging(Input):
    """How much of a list, and from where on, as a query says it."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=LIMIT_MAX)] = LIMIT_DEFAULT
    cursor: Annotated[
        str, msgspec.Meta(max_length=1_024, extra_json_schema={"format": "cursor"})
    ] = ""
    """Opaque: what the page before said."""


def is_record(kind: Any) -> bool:
    """Whether a type is one of ours."""
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)
