"""Structs that are frozen and take their fields by name, and so do all that inherit from them.

msgspec hands these traits on; type checkers have to be told, or each subclass would say them again.
"""

from typing import dataclass_transform

import msgspec


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class FrozenMeta(msgspec.StructMeta):
    """The metaclass of such structs."""


class Frozen(msgspec.Struct, metaclass=FrozenMeta, frozen=True, kw_only=True):
    """A struct that cannot be changed."""
