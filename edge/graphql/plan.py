"""An operation, compiled: fragments put in, equal fields merged, `@skip` and `@include` decided.

A plan holds for all requests with this document, operation, and values of the variables that its
`@skip` and `@include` read. Compiling counts as it goes, so that fragments that multiply each other
are refused before they are written out.
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final, cast

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLField,
    GraphQLIncludeDirective,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLScalarType,
    GraphQLSchema,
    GraphQLSkipDirective,
    GraphQLUnionType,
    InlineFragmentNode,
    ListValueNode,
    ObjectValueNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    TypeNameMetaFieldDef,
    VariableNode,
    get_argument_values,
    get_directive_values,
    is_leaf_type,
)
from graphql.execution.values import VariableValues

from edge.graphql.outputs import KIND, SOURCE, Source
from edge.graphql.refused import Refused
from edge.graphql.scalars import Leaf
from edge.graphql.schema import ROOT, Root
from edge.graphql.settings import GraphqlSettings
from edge.graphql.shapes import (
    Field,
    IntrospectionShape,
    LeafShape,
    LinkField,
    LinkShape,
    ListShape,
    NameField,
    ObjectShape,
    Shape,
    UnionShape,
    ValueField,
    Weight,
)

OBJECTS_PER_TOKEN: Final = 100
"""How many objects of an answer cost as much as the cheapest call."""
SCHEMA_FIELDS_PER_TOKEN: Final = 5
"""How many fields of a question for the schema cost as much as the cheapest call."""
_TYPENAME: Final = "__typename"

Nodes = dict[str, list[FieldNode]]


@dataclass(frozen=True, slots=True, eq=False)
class RootField:
    """A root field of an operation."""

    key: str
    node: FieldNode
    field: GraphQLField
    shape: Shape
    root: Root | None
    """None: of the introspection."""
    constant: Mapping[str, Any] | None
    """Its arguments, if no variable is among them."""
    resolve: Callable[[Mapping[str, Any]], Any] | None = None
    """Of the introspection: from arguments to what graphql-core knows."""
    schema_fields: int = 0
    """Of the introspection: how many fields are selected in it."""
    reusable: bool = False
    """Of the introspection: whether no variable is in it."""

    def arguments(self, variables: VariableValues) -> Mapping[str, Any]:
        """Coerced. Raises GraphQLError."""
        if self.constant is not None:
            return self.constant
        return get_argument_values(self.field, self.node, variables)

    def tokens(self, arguments: Mapping[str, Any]) -> int:
        """What it costs."""
        if self.root is None:
            return -(-self.schema_fields // SCHEMA_FIELDS_PER_TOKEN)
        weight = self.shape.weight
        rows = max(int(arguments.get("limit") or 0), 0)
        objects = weight.fixed + weight.per_row * rows
        return self.root.operation.route.cost + objects // OBJECTS_PER_TOKEN


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """An operation, ready to be executed."""

    is_query: bool
    roots: tuple[RootField, ...]
    reusable: bool
    """Whether it holds for other values of the variables too."""


def compile_plan(
    schema: GraphQLSchema,
    operation: OperationDefinitionNode,
    fragments: Mapping[str, FragmentDefinitionNode],
    *,
    variables: VariableValues,
    settings: GraphqlSettings,
) -> Plan:
    """The plan of a validated operation. Raises Refused (`query_depth`, `query_fields`)."""
    return _Compiler(schema, fragments, variables, settings).plan(operation)


class _Compiler:
    def __init__(
        self,
        schema: GraphQLSchema,
        fragments: Mapping[str, FragmentDefinitionNode],
        variables: VariableValues,
        settings: GraphqlSettings,
    ) -> None:
        self._schema = schema
        self._fragments = fragments
        self._variables = variables
        self._settings = settings
        self._fields = 0
        self._reusable = True

    def plan(self, operation: OperationDefinitionNode) -> Plan:
        is_query = operation.operation is OperationType.QUERY
        kind = self._schema.query_type if is_query else self._schema.mutation_type
        assert kind is not None, "validated"
        found = self._collect(kind, [operation.selection_set])
        roots = tuple(self._root(kind, key, nodes) for key, nodes in found.items())
        return Plan(is_query, roots, self._reusable)

    def _root(self, kind: GraphQLObjectType, key: str, nodes: list[FieldNode]) -> RootField:
        node = nodes[0]
        field = self._field_of(kind, node)
        root = field.extensions.get(ROOT)
        constant = None
        if not _has_variable(one.value for one in node.arguments or ()):
            # What is wrong with them is an error of the field, when it runs.
            with contextlib.suppress(GraphQLError):
                constant = get_argument_values(field, node, self._variables)
        if root is not None:
            source = Source("", root.leaf)
            around = _Around(1, paged=root.operation.is_list)
            shape = self._shape(field.type, nodes, source, around)
            return RootField(key, node, field, shape, root, constant)
        before = self._fields
        shape = self._introspected(field.type, nodes)
        return RootField(
            key,
            node,
            field,
            shape,
            None,
            constant,
            resolve=self._schema_reader(kind, field),
            schema_fields=self._fields - before,
            reusable=self._reusable and constant is not None,
        )

    def _schema_reader(
        self, kind: GraphQLObjectType, field: GraphQLField
    ) -> Callable[[Mapping[str, Any]], Any]:
        resolve = field.resolve
        assert resolve is not None, "fields of the introspection have resolvers"
        info: Any = SimpleNamespace(schema=self._schema, parent_type=kind)
        return lambda arguments: resolve(None, info, **arguments)

    def _shape(
        self, kind: GraphQLOutputType, nodes: list[FieldNode], source: Source, around: "_Around"
    ) -> Shape:
        nullable = not isinstance(kind, GraphQLNonNull)
        if isinstance(kind, GraphQLNonNull):
            kind = kind.of_type
        if isinstance(kind, GraphQLList):
            item = self._shape(kind.of_type, nodes, source, around.inside())
            weight = self._weight(item.weight, source, around)
            return ListShape(nodes[0], item, nullable=nullable, weight=weight)
        if isinstance(kind, GraphQLObjectType):
            return self._object(kind, nodes, around, nullable=nullable)
        if isinstance(kind, GraphQLUnionType):
            members = {
                cls: self._object(made, nodes, around.inside(), nullable=False)
                for cls, made in kind.extensions[KIND].items()
            }
            return UnionShape(nodes[0], members, nullable=nullable)
        assert source.leaf is not None, "a leaf says how it is shown"
        return LeafShape(nodes[0], source.leaf, nullable=nullable)

    def _weight(self, item: Weight, source: Source, around: "_Around") -> Weight:
        if around.rows:
            return Weight(0, item.fixed)
        return item.times(source.items_max or self._settings.list_items_assumed)

    def _object(
        self, kind: GraphQLObjectType, nodes: list[FieldNode], around: "_Around", *, nullable: bool
    ) -> ObjectShape:
        found = self._collect(kind, [node.selection_set for node in nodes if node.selection_set])
        if found and around.depth >= self._settings.depth_max:
            raise Refused(
                f"fields are nested deeper than {self._settings.depth_max}",
                code="query_depth",
                always=True,
                fields={"depth_max": self._settings.depth_max},
            )
        fields = [self._member(kind, key, below, around) for key, below in found.items()]
        return ObjectShape(nodes[0], kind.extensions[KIND], fields, nullable=nullable)

    def _member(
        self, kind: GraphQLObjectType, key: str, nodes: list[FieldNode], around: "_Around"
    ) -> Field:
        if nodes[0].name.value == _TYPENAME:
            return NameField(key, kind.name)
        field = self._field_of(kind, nodes[0])
        source: Source = field.extensions[SOURCE]
        below = _Around(around.depth + 1, rows=around.paged and source.attribute == "data")
        if source.link is None:
            return ValueField(key, source.attribute, self._shape(field.type, nodes, source, below))
        return self._linked(key, field, nodes, below)

    def _linked(
        self, key: str, field: GraphQLField, nodes: list[FieldNode], around: "_Around"
    ) -> Field:
        source: Source = field.extensions[SOURCE]
        assert source.link is not None
        kind: Any = field.type
        nullable = not isinstance(kind, GraphQLNonNull)
        kind = kind.of_type if isinstance(kind, GraphQLNonNull) else kind
        many = isinstance(kind, GraphQLList)
        target = cast("GraphQLObjectType", kind.of_type if many else kind)
        link = LinkShape(source.link, self._object(target, nodes, around, nullable=True))
        if not many:
            return LinkField(key, source.attribute, link, many=None)
        ids = LeafShape(nodes[0], Leaf(frozenset({str})), nullable=True)
        weight = self._weight(link.weight, source, _Around(0))
        listed = ListShape(nodes[0], ids, nullable=nullable, weight=weight)
        return LinkField(key, source.attribute, link, many=listed)

    def _introspected(self, kind: GraphQLOutputType, nodes: list[FieldNode]) -> Shape:
        nullable = not isinstance(kind, GraphQLNonNull)
        if isinstance(kind, GraphQLNonNull):
            kind = kind.of_type
        if isinstance(kind, GraphQLList):
            item = self._introspected(kind.of_type, nodes)
            return ListShape(nodes[0], item, nullable=nullable, weight=Weight())
        if is_leaf_type(kind):
            plain = frozenset({str, bool}) if isinstance(kind, GraphQLScalarType) else frozenset()
            leaf = Leaf(plain, kind.coerce_output_value)
            return LeafShape(nodes[0], leaf, nullable=nullable)
        assert isinstance(kind, GraphQLObjectType)
        shape = IntrospectionShape(nodes[0], nullable=nullable)
        found = self._collect(kind, [node.selection_set for node in nodes if node.selection_set])
        for key, below in found.items():
            field = self._field_of(kind, below[0])
            shape.rows.append(
                (key, self._resolver(kind, field, below[0]), self._introspected(field.type, below))
            )
        return shape

    def _resolver(
        self, kind: GraphQLObjectType, field: GraphQLField, node: FieldNode
    ) -> Callable[[Any], Any]:
        if field.resolve is None or field is TypeNameMetaFieldDef:
            return lambda _value: kind.name
        resolve = field.resolve
        if _has_variable(one.value for one in node.arguments or ()):
            self._reusable = False
        arguments = get_argument_values(field, node, self._variables)
        info: Any = SimpleNamespace(schema=self._schema, parent_type=kind)
        return lambda value: resolve(value, info, **arguments)

    def _collect(self, kind: GraphQLObjectType, selections: Iterable[SelectionSetNode]) -> Nodes:
        """Fields by their names in the answer, in order ("Field Collection")."""
        found: Nodes = {}
        seen: set[str] = set()
        for selection in selections:
            self._gather(kind, selection, found, seen)
        return found

    def _gather(
        self, kind: GraphQLObjectType, selection: SelectionSetNode, found: Nodes, seen: set[str]
    ) -> None:
        for node in selection.selections:
            if not self._is_wanted(node):
                continue
            if isinstance(node, FieldNode):
                self._count()
                key = node.alias.value if node.alias else node.name.value
                found.setdefault(key, []).append(node)
            elif isinstance(node, InlineFragmentNode):
                if self._applies(kind, node.type_condition):
                    self._gather(kind, node.selection_set, found, seen)
            elif isinstance(node, FragmentSpreadNode) and node.name.value not in seen:
                seen.add(node.name.value)
                fragment = self._fragments[node.name.value]
                if self._applies(kind, fragment.type_condition):
                    self._gather(kind, fragment.selection_set, found, seen)

    def _is_wanted(self, node: Any) -> bool:
        if not node.directives:
            return True
        skip = get_directive_values(GraphQLSkipDirective, node, self._variables)
        if skip is not None and skip["if"]:
            return False
        include = get_directive_values(GraphQLIncludeDirective, node, self._variables)
        return include is None or bool(include["if"])

    def _applies(self, kind: GraphQLObjectType, condition: Any) -> bool:
        if condition is None or condition.name.value == kind.name:
            return True
        wanted = self._schema.get_type(condition.name.value)
        return isinstance(
            wanted, GraphQLUnionType | GraphQLInterfaceType
        ) and self._schema.is_sub_type(wanted, kind)

    def _field_of(self, kind: GraphQLObjectType, node: FieldNode) -> GraphQLField:
        field = self._schema.get_field(kind, node.name.value)
        assert field is not None, "validated"
        return field

    def _count(self) -> None:
        self._fields += 1
        most = self._settings.fields_max
        if self._fields > most:
            raise Refused(
                f"the operation has more than {most} fields",
                code="query_fields",
                always=True,
                fields={"fields_max": most},
            )


@dataclass(frozen=True, slots=True)
class _Around:
    """Where a shape stands."""

    depth: int
    paged: bool = False
    """It is the page that the root field asks for."""
    rows: bool = False
    """It is the rows of that page."""

    def inside(self) -> "_Around":
        return _Around(self.depth)


def _has_variable(values: Iterable[Any]) -> bool:
    for value in values:
        if isinstance(value, VariableNode):
            return True
        if isinstance(value, ListValueNode) and _has_variable(value.values):
            return True
        if isinstance(value, ObjectValueNode) and _has_variable(f.value for f in value.fields):
            return True
    return False
