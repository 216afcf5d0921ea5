"""How names of Python and of JSON become names of GraphQL: camelCase fields, PascalCase types."""

import re
from typing import Final

_WORDS: Final = re.compile(r"[^A-Za-z0-9]+")
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def camel(text: str) -> str:
    """`next_cursor`, `guest-list` as `nextCursor`, `guestList`."""
    first, *rest = (word for word in _WORDS.split(text) if word)
    return first[:1].lower() + first[1:] + "".join(word[:1].upper() + word[1:] for word in rest)


def pascal(text: str) -> str:
    """`guest-list` as `GuestList`."""
    name = camel(text)
    return name[:1].upper() + name[1:]


def enum_name(value: object) -> str:
    """A value of an enumeration, `checked-in` or `checkedIn`, as `CHECKED_IN`; 3 as `_3`."""
    words = [part for word in _WORDS.split(str(value)) for part in _HUMP.split(word) if part]
    name = "_".join(words).upper() or "EMPTY"
    if isinstance(value, int) and value < 0:
        name = f"MINUS_{name}"
    return f"_{name}" if name[0].isdigit() else name


def id_names(field: str, *, many: bool) -> tuple[str, str]:
    """What a field with ids of other records is called, and the link beside it.

    `guest` and `guest_id` are `guestId` and `guest`; `guests` and `guest_ids` are `guestIds` and
    `guests`.
    """
    if many:
        stem = field.removesuffix("_ids")
        plural = f"{stem}s" if stem != field else stem
        return f"{camel(plural.removesuffix('s'))}Ids", camel(plural)
    stem = field.removesuffix("_id")
    return f"{camel(stem)}Id", camel(stem)
