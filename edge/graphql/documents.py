"""Documents, parsed and validated once: remembered by text, and by hash for persisted queries.

Automatic persisted queries, as Apollo's clients do them: a request names the SHA-256 of its
document; a worker that does not know it says so, and gets the text with it the next time. What is
remembered is bounded in number and in bytes of text; the longest unused goes first. A document that
is wrong is remembered too: whoever sends it will send it again.

Before the validation, whose cost grows with the square of some things, those things are counted.
"""

import asyncio
import hashlib
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from graphql import (
    DirectiveNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLSchema,
    GraphQLSyntaxError,
    Node,
    OperationDefinitionNode,
    OperationType,
    VariableNode,
    get_variable_values,
    parse,
    validate,
)
from graphql.execution.values import VariableValues

from edge.graphql.plan import Plan, compile_plan
from edge.graphql.refused import Refused
from edge.graphql.settings import GraphqlSettings
from ops import metrics

PLANS_MAX: Final = 8
"""Plans that one document keeps: one for each combination of what `@skip` and `@include` say."""
ERRORS_MAX: Final = 20
"""Faults of a document that are told at once."""
_LONG_CHARACTERS: Final = 2_000
"""Documents above this are read in a thread: the event loop would stand still."""
_TOO_LONG: Final = "Document contains more than"
"""How graphql-core's message begins when there are too many tokens."""

_known = metrics.gauge("nexus_graphql_documents", "Documents that workers remember.")
_known_bytes = metrics.gauge("nexus_graphql_documents_bytes", "Bytes of their text.")
_read = metrics.counter(
    "nexus_graphql_documents_read", "Documents asked for: remembered, or read.", ("how",)
)
_read.expect(("remembered",), ("read",))
_forgotten = metrics.counter(
    "nexus_graphql_documents_forgotten", "Documents that were forgotten for want of room."
)


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """A document that is valid, or what is wrong with it."""

    text_bytes: int
    refused: Refused | None = None
    operations: Mapping[str, OperationDefinitionNode] = field(default_factory=dict)
    """By name; an anonymous one by the empty name."""
    fragments: Mapping[str, FragmentDefinitionNode] = field(default_factory=dict)
    deciding: frozenset[str] = frozenset()
    """Variables that `@skip` and `@include` read."""
    plans: dict[tuple[Any, ...], Plan] = field(default_factory=dict)

    def operation(self, name: str | None) -> tuple[str, OperationDefinitionNode]:
        """The operation to run ("GetOperation"). Raises Refused."""
        if name is None:
            if len(self.operations) != 1:
                raise Refused(
                    "the document has several operations: say which by operationName",
                    code="graphql.operation",
                )
            return next(iter(self.operations.items()))
        found = self.operations.get(name)
        if found is None or not name:
            raise Refused("the document has no such operation", code="graphql.operation")
        return name, found


class Documents:
    """What a worker remembers."""

    def __init__(self, schema: GraphQLSchema, settings: GraphqlSettings) -> None:
        self._schema = schema
        self._settings = settings
        self._by_text: OrderedDict[str, Document] = OrderedDict()
        self._by_hash: OrderedDict[str, str] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._by_text)

    @property
    def text_bytes(self) -> int:
        """Bytes of text of the documents."""
        return self._bytes

    async def find(self, text: str | None, *, sha256: str | None = None) -> Document:
        """The document of a text, of a persisted query's hash, or of both.

        Raises Refused: what is wrong with it; PersistedQueryNotFound.
        """
        if text is None:
            text = self._by_hash.get(sha256 or "")
            if text is None:
                raise Refused(
                    "PersistedQueryNotFound",
                    code="PERSISTED_QUERY_NOT_FOUND",
                    status=200,
                    headers={"Cache-Control": "private, no-cache, must-revalidate"},
                )
            assert sha256 is not None
            self._by_hash.move_to_end(sha256)
        elif sha256 is not None and hashlib.sha256(text.encode()).hexdigest() != sha256:
            raise Refused("the hash is not that of the query", code="persisted_query.hash")
        document = self._by_text.get(text)
        if document is not None:
            self._by_text.move_to_end(text)
            _read.inc(labels=("remembered",))
        else:
            _read.inc(labels=("read",))
            if len(text) > _LONG_CHARACTERS:
                document = await asyncio.to_thread(self._make, text)
            else:
                document = self._make(text)
            self._keep(text, document)
        if document.refused is not None:
            raise document.refused.with_traceback(None)
        if sha256 is not None:
            self._by_hash[sha256] = text
        return document

    def plan(self, document: Document, name: str, variables: VariableValues) -> Plan:
        """The plan of an operation of the document. Raises Refused."""
        decided = tuple(bool(variables.coerced.get(one)) for one in sorted(document.deciding))
        plan = document.plans.get((name, *decided))
        if plan is None:
            plan = compile_plan(
                self._schema,
                document.operations[name],
                document.fragments,
                variables=variables,
                settings=self._settings,
            )
            if plan.reusable:
                if len(document.plans) >= PLANS_MAX:
                    del document.plans[next(iter(document.plans))]
                document.plans[name, *decided] = plan
        return plan

    def variables(
        self, operation: OperationDefinitionNode, given: Mapping[str, Any]
    ) -> VariableValues:
        """Coerced. Raises Refused."""
        found = get_variable_values(
            self._schema,
            operation.variable_definitions or (),
            dict(given),
            max_errors=ERRORS_MAX,
            hide_suggestions=not self._settings.introspection,
        )
        if isinstance(found, list):
            raise Refused(
                "the variables are wrong",
                code="graphql.variables",
                errors=[_said(error) for error in found[:ERRORS_MAX]],
            )
        return found

    def _keep(self, text: str, document: Document) -> None:
        if text not in self._by_text:
            self._bytes += document.text_bytes
        self._by_text[text] = document
        settings = self._settings
        while len(self._by_text) > settings.documents_max or (
            self._bytes > settings.documents_bytes_max and len(self._by_text) > 1
        ):
            gone, oldest = self._by_text.popitem(last=False)
            self._bytes -= oldest.text_bytes
            self._by_hash.pop(hashlib.sha256(gone.encode()).hexdigest(), None)
            _forgotten.inc()
        _known.set(len(self._by_text))
        _known_bytes.set(self._bytes)

    def _make(self, text: str) -> Document:
        size = len(text.encode())
        try:
            return self._valid(text, size)
        except Refused as refused:
            return Document(size, refused)

    def _valid(self, text: str, size: int) -> Document:
        settings = self._settings
        try:
            tree = parse(
                text, max_lexical_tokens=settings.tokens_max, allow_empty_selection_sets=False
            )
        except GraphQLSyntaxError as error:
            if _TOO_LONG in error.message:
                raise self._too_much("words", "query_tokens", settings.tokens_max) from None
            raise Refused(error.message, code="graphql.syntax", errors=[_said(error)]) from None
        deciding = self._counted(tree)
        errors = validate(
            self._schema,
            tree,
            max_errors=ERRORS_MAX,
            # "Did you mean" tells names of the schema.
            hide_suggestions=not settings.introspection,
        )
        if errors:
            raise Refused(
                "the document is not valid",
                code="graphql.invalid",
                errors=[_said(error) for error in errors],
            )
        definitions = tree.definitions
        operations = {
            one.name.value if one.name else "": one
            for one in definitions
            if isinstance(one, OperationDefinitionNode)
        }
        if not operations:
            raise Refused("the document has no operation", code="graphql.operation")
        if any(one.operation is OperationType.SUBSCRIPTION for one in operations.values()):
            raise Refused("subscriptions are not served here", code="graphql.operation")
        fragments = {
            one.name.value: one for one in definitions if isinstance(one, FragmentDefinitionNode)
        }
        return Document(size, None, operations, fragments, deciding)

    def _counted(self, tree: DocumentNode) -> frozenset[str]:
        """Variables that `@skip` and `@include` read. Raises Refused when there is too much."""
        settings = self._settings
        names: Counter[str] = Counter()
        aliases = directives = 0
        deciding: set[str] = set()
        for node in _nodes(tree):
            if isinstance(node, FieldNode):
                aliases += node.alias is not None
                names[(node.alias or node.name).value] += 1
                if not settings.introspection and node.name.value in {"__schema", "__type"}:
                    raise Refused("the schema is not shown here", code="graphql.introspection")
            elif isinstance(node, DirectiveNode):
                directives += 1
                deciding.update(
                    argument.value.name.value
                    for argument in node.arguments or ()
                    if isinstance(argument.value, VariableNode)
                )
        repeats = max(names.values(), default=0)
        for found, most, what, code in (
            (aliases, settings.aliases_max, "aliases", "query_aliases"),
            (directives, settings.directives_max, "directives", "query_directives"),
            (repeats, settings.repeats_max, "fields of one name", "query_repeats"),
        ):
            if found > most:
                raise self._too_much(what, code, most)
        return frozenset(deciding)

    def _too_much(self, what: str, code: str, most: int) -> Refused:
        text = f"the document has more than {most} {what}"
        return Refused(text, code=code, always=True, fields={"max": most})


def _said(error: GraphQLError) -> dict[str, Any]:
    said: dict[str, Any] = {"message": error.message}
    if error.locations:
        said["locations"] = [{"line": one.line, "column": one.column} for one in error.locations]
    return said


def _nodes(tree: Node) -> Iterator[Node]:
    """Every node of a document."""
    waiting: list[Any] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        for key in node.keys:
            if key == "loc":
                continue
            child = getattr(node, key, None)
            if isinstance(child, Node):
                waiting.append(child)
            elif isinstance(child, list | tuple):
                waiting.extend(child)
