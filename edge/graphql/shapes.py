"""What an answer looks like, compiled: how to make JSON of a record, for one selection.

A shape walks a value once, without promises, since all but links is there already. A link leaves a
gap in the answer and a note about it in `Pending`; whoever fetches what it leads to fills it.

Where a value breaks its type (a bug of its service), the fault is noted, and null takes the place
of the nearest thing around that may be null, as the specification says ("Handling Execution
Errors").
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from graphql import FieldNode
from msgspec import UNSET

from edge.graphql.outputs import Linked
from edge.graphql.scalars import Leaf

Path = tuple[Any, str | int] | None
"""The way from the root: the path of what is around, and the key or index in it."""


class Broken(Exception):  # noqa: N818  caught by what is around
    """A value that may not be null has to be: its fault is noted."""


@dataclass(slots=True)
class Fault:
    """Something that has gone wrong at a place of the answer."""

    error: Exception
    path: Path
    node: FieldNode


class Gap(NamedTuple):
    """A place for a linked record."""

    link: "LinkShape"
    id: str
    target: Any
    """The object or list that it stands in."""
    key: str | int
    path: Path


@dataclass(slots=True)
class Pending:
    """What a walk leaves behind."""

    faults: list[Fault] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)


class Weight(NamedTuple):
    """How many objects a shape may give: `fixed`, and `per_row` for each row of the root's page."""

    fixed: int = 0
    per_row: int = 0

    def times(self, count: int) -> "Weight":
        return Weight(self.fixed * count, self.per_row * count)

    def plus(self, other: "Weight") -> "Weight":
        return Weight(self.fixed + other.fixed, self.per_row + other.per_row)


NO_WEIGHT: Final = Weight()


class Shape(ABC):
    """How values of one type are shown at one place."""

    __slots__ = ("node", "nullable", "weight")

    def __init__(self, node: FieldNode, *, nullable: bool, weight: Weight = NO_WEIGHT) -> None:
        self.node = node
        self.nullable = nullable
        self.weight = weight

    def complete(self, value: Any, path: Path, pending: Pending) -> Any:
        """The value as JSON. Raises Broken."""
        if value is None or value is UNSET:
            if self.nullable:
                return None
            pending.faults.append(Fault(TypeError("null where none may be"), path, self.node))
            raise Broken
        try:
            return self.show(value, path, pending)
        except (AttributeError, TypeError, ValueError) as error:
            pending.faults.append(Fault(error, path, self.node))
        except Broken:
            pass
        if self.nullable:
            return None
        raise Broken

    @abstractmethod
    def show(self, value: Any, path: Path, pending: Pending) -> Any:
        """The value, which is not null. Raises Broken, AttributeError, TypeError, ValueError."""


class LeafShape(Shape):
    """A scalar or a value of an enumeration."""

    __slots__ = ("classes", "convert")

    def __init__(self, node: FieldNode, leaf: Leaf, *, nullable: bool) -> None:
        super().__init__(node, nullable=nullable)
        self.convert = leaf.convert
        self.classes = leaf.classes | {type(None)} if nullable else leaf.classes

    def show(self, value: Any, path: Path, pending: Pending) -> Any:  # noqa: ARG002
        if value.__class__ in self.classes:
            return value
        if self.convert is None:
            raise TypeError(f"a {type(value).__name__} where it should not be")
        return self.convert(value)


class ListShape(Shape):
    """A list."""

    __slots__ = ("item",)

    def __init__(self, node: FieldNode, item: Shape, *, nullable: bool, weight: Weight) -> None:
        super().__init__(node, nullable=nullable, weight=weight)
        self.item = item

    def show(self, value: Any, path: Path, pending: Pending) -> Any:
        if isinstance(value, str | bytes | Mapping):
            raise TypeError("not a list")
        complete = self.item.complete
        return [complete(item, (path, index), pending) for index, item in enumerate(value)]


class ObjectShape(Shape):
    """An object with the fields that were selected."""

    __slots__ = ("kind", "rows")

    def __init__(
        self, node: FieldNode, kind: type, fields: "list[Field]", *, nullable: bool
    ) -> None:
        total = Weight(1)
        for one in fields:
            total = total.plus(one.weight)
        super().__init__(node, nullable=nullable, weight=total)
        self.kind = kind
        self.rows = tuple((one.key, one.attribute, one.plain, one) for one in fields)

    def show(self, value: Any, path: Path, pending: Pending) -> Any:
        if not isinstance(value, self.kind):
            raise TypeError(f"a {type(value).__name__}, not a {self.kind.__name__}")
        shown: dict[str, Any] = {}
        for key, attribute, plain, one in self.rows:
            held = getattr(value, attribute)
            if held.__class__ in plain:
                shown[key] = held
            else:
                one.put(shown, held, path, pending)
        return shown


class UnionShape(Shape):
    """One of several objects, told apart by their classes."""

    __slots__ = ("members",)

    def __init__(
        self, node: FieldNode, members: Mapping[type, ObjectShape], *, nullable: bool
    ) -> None:
        parts = [member.weight for member in members.values()]
        weight = Weight(max(p.fixed for p in parts), max(p.per_row for p in parts))
        super().__init__(node, nullable=nullable, weight=weight)
        self.members = members

    def show(self, value: Any, path: Path, pending: Pending) -> Any:
        member = self.members.get(type(value))
        if member is None:
            raise TypeError(f"a {type(value).__name__}, not one of the union")
        return member.show(value, path, pending)


class IntrospectionShape(Shape):
    """A part of the schema, which graphql-core's own resolvers know how to read."""

    __slots__ = ("rows",)

    def __init__(self, node: FieldNode, *, nullable: bool) -> None:
        super().__init__(node, nullable=nullable)
        self.rows: list[tuple[str, Callable[[Any], Any], Shape]] = []

    def show(self, value: Any, path: Path, pending: Pending) -> Any:
        return {
            key: shape.complete(resolve(value), (path, key), pending)
            for key, resolve, shape in self.rows
        }


class Field(ABC):
    """One field of an object: reads an attribute, and puts what it makes of it into the answer."""

    __slots__ = ("attribute", "key", "plain", "weight")

    def __init__(self, key: str, attribute: str, weight: Weight) -> None:
        self.key = key
        self.attribute = attribute
        self.weight = weight
        self.plain: frozenset[type] = frozenset()
        """Values of these classes go as they are, without asking `put`."""

    @abstractmethod
    def put(self, shown: dict[str, Any], held: Any, path: Path, pending: Pending) -> None:
        """Raises Broken."""


class ValueField(Field):
    """What the record holds."""

    __slots__ = ("_shape",)

    def __init__(self, key: str, attribute: str, shape: Shape) -> None:
        super().__init__(key, attribute, shape.weight)
        self._shape = shape
        if isinstance(shape, LeafShape):
            self.plain = shape.classes

    def put(self, shown: dict[str, Any], held: Any, path: Path, pending: Pending) -> None:
        shown[self.key] = self._shape.complete(held, (path, self.key), pending)


class NameField(Field):
    """`__typename`."""

    __slots__ = ("_name",)

    def __init__(self, key: str, name: str) -> None:
        super().__init__(key, "__class__", Weight())
        self._name = name

    def put(self, shown: dict[str, Any], *_: Any) -> None:
        shown[self.key] = self._name


class LinkField(Field):
    """What the id, or the ids, that the record holds lead to."""

    __slots__ = ("_link", "_many")

    def __init__(
        self, key: str, attribute: str, link: "LinkShape", *, many: ListShape | None
    ) -> None:
        super().__init__(key, attribute, link.weight if many is None else many.weight)
        self._link = link
        self._many = many

    def put(self, shown: dict[str, Any], held: Any, path: Path, pending: Pending) -> None:
        here = (path, self.key)
        if self._many is None:
            shown[self.key] = None
            if isinstance(held, str):
                pending.gaps.append(Gap(self._link, held, shown, self.key, here))
            return
        ids = self._many.complete(held, here, pending)
        shown[self.key] = ids
        if ids is not None:
            for index, one in enumerate(ids):
                ids[index] = None
                if one is not None:
                    pending.gaps.append(Gap(self._link, one, ids, index, (here, index)))


class LinkShape:
    """A record that an id leads to: where to get it, and how to show it. Always nullable."""

    __slots__ = ("linked", "shape", "weight")

    def __init__(self, linked: Linked, shape: ObjectShape) -> None:
        self.linked = linked
        self.shape = shape
        self.weight = shape.weight
