"""What Schemathesis is told of our routes beside their description.

It runs in a process of its own, which imports this by name (`schemathesis.toml`).
"""

import json
import re
import uuid
from typing import Any, Final

import schemathesis
from hypothesis import strategies as st
from schemathesis.openapi.checks import (
    AllowHeaderMismatch,
    JsonSchemaError,
    RejectedPositiveData,
)

from services._kit import idempotency, versions

SHAPE: Final = frozenset({"type", "missing", "value", "deep", "long", "twice"})
"""Faults that the description could have told of; all others are rules of the service."""
FREE: Final = ("/config/",)
"""Below these fields anything is of the right shape: what it means is read by a rule."""
KEY: Final = "Idempotency-Key"
MATCH: Final = "If-Match"

# A cursor is what a page before said: none can be made up.
schemathesis.openapi.format("cursor", st.just(""))


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: Any) -> None:
    """A key that another request used is refused; so each request has one of its own."""
    known = (case.headers or {}).get(KEY)
    if isinstance(known, str) and re.fullmatch(idempotency.PATTERN_NEEDED, known):
        case.headers[KEY] = str(uuid.uuid4())
    # It has its own idea of a right If-Match, whatever the description says.
    tag = (case.headers or {}).get(MATCH)
    if isinstance(tag, str) and case.meta.generation.mode.is_positive:
        case.headers[MATCH] = tag if re.fullmatch(versions.PATTERN_NEEDED, tag) else '"1"'


@schemathesis.hook
def filter_failure(_context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Whether a failure counts."""
    match failure:
        case JsonSchemaError():
            # Who asks for some fields is answered with those alone.
            partial = "fields" in (case.query or {}) and response.status_code < 300
            return not (partial and "is a required property" in failure.validation_message)
        case AllowHeaderMismatch():
            # `/things/{id}:verb` may be read as a thing's id too.
            return not (":" in case.path and not failure.missing_methods)
        case RejectedPositiveData():
            return _is_shape(response)
    return True


def _is_shape(response: Any) -> bool:
    """Whether what was refused could have been told from the description: input of the right shape
    may break a rule."""
    if response.status_code != 422:
        return True
    told = json.loads(response.content).get("errors", [])
    return not told or any(
        fault["code"] in SHAPE and not fault.get("pointer", "").startswith(FREE) for fault in told
    )
