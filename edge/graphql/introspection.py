"""What the schema says of itself: made in a thread, since it is long, and remembered as bytes."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from edge.graphql.plan import RootField
from edge.graphql.shapes import Pending
from ops import metrics

ANSWERS_MAX: Final = 16
ANSWER_BYTES_MAX: Final = 2_097_152
"""Longest answer that is remembered."""

_made = metrics.counter(
    "nexus_graphql_introspections", "Introspections: remembered, or made.", ("how",)
)
_made.expect(("remembered",), ("made",))


class Introspection:
    """Answers of `__schema`. Remembers the last ones, as long as their documents are the same."""

    def __init__(self) -> None:
        self._answers: OrderedDict[RootField, msgspec.Raw] = OrderedDict()

    async def answer(self, field: RootField, arguments: Mapping[str, Any]) -> Any:
        """The value of the root field: JSON that is written already."""
        known = self._answers.get(field)
        if known is not None:
            self._answers.move_to_end(field)
            _made.inc(labels=("remembered",))
            return known
        _made.inc(labels=("made",))
        made = await asyncio.to_thread(_make, field, arguments)
        if field.reusable and len(bytes(made)) <= ANSWER_BYTES_MAX:
            self._answers[field] = made
            if len(self._answers) > ANSWERS_MAX:
                self._answers.popitem(last=False)
        return made


def _make(field: RootField, arguments: Mapping[str, Any]) -> msgspec.Raw:
    assert field.resolve is not None
    pending = Pending()
    shown = field.shape.complete(field.resolve(arguments), (None, field.key), pending)
    assert not pending.faults, "the schema is whole"
    return msgspec.Raw(msgspec.json.encode(shown))
