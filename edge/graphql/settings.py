"""Settings of the GraphQL endpoint: what one document may hold, cost and take."""

from dataclasses import dataclass

from ops.settings import setting


@dataclass(frozen=True, slots=True)
class GraphqlSettings:
    """Limits of GraphQL; those of HTTP hold besides."""

    introspection: bool = setting(
        default=True, help="Whether clients may ask for the schema, by `__schema` and `__type`."
    )
    body_bytes_max: int = setting(
        262_144, "Longest body of a request in bytes.", min=1_024, max=16_777_216
    )
    tokens_max: int = setting(
        4_000, "Words and signs in a document, comments left out.", min=50, max=100_000
    )
    fields_max: int = setting(
        1_000, "Fields of an operation once its fragments are put in.", min=1, max=100_000
    )
    aliases_max: int = setting(100, "Aliased fields in a document.", min=0, max=10_000)
    directives_max: int = setting(100, "Directives in a document.", min=0, max=10_000)
    repeats_max: int = setting(
        100, "How often a document may give fields one name in the answer.", min=1, max=10_000
    )
    depth_max: int = setting(12, "Fields within fields.", min=1, max=100)
    cost_max: int = setting(
        100,
        "Tokens that an operation may cost: those of its calls, and one for every 100 objects that"
        " its lists and links may give.",
        min=1,
        max=1_000_000,
    )
    list_items_assumed: int = setting(
        10, "Items that a list is taken to have which names no limit.", min=1, max=10_000
    )
    operation_seconds_max: float = setting(
        15.0, "Seconds after which what an operation still waits for is an error.", min=0.1, max=600
    )
    concurrent_calls_max: int = setting(
        8, "Calls of services that one query has under way.", min=1, max=1_000
    )
    link_ids_max: int = setting(
        500, "Ids of linked records that are asked for in one call.", min=1, max=10_000
    )
    errors_max: int = setting(
        50, "Errors that one answer lists; more are counted in the last.", min=1, max=10_000
    )
    documents_max: int = setting(
        1_000, "Documents that a worker remembers, by text and by hash.", min=1, max=1_000_000
    )
    documents_bytes_max: int = setting(
        2_097_152, "Bytes of text of the documents that a worker remembers.", min=65_536
    )
