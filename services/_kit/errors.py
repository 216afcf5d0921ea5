"""What a call can fail of, as types; `edge/problems.py` makes HTTP statuses of them.

Rejected
├── Malformed    400  the request cannot be read
├── SignedOut    401  somebody must be signed in
├── Forbidden    403  the actor lacks a permission            (actor.py)
├── NotFound     404  there is no such thing in this tenant
├── Conflict     409  the object's state does not allow it; `code` says what
├── Stale        412  it has another version than If-Match names
├── NoMatch      428  If-Match is missing
└── Invalid      422  well-formed and wrong: each `Problem` names a field
ops.db: Duplicate 409, Violation 422, DatabaseFault 503
"""

from collections.abc import Sequence

import msgspec

from ops.errors import Rejected


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One fault of a request: where (a JSON pointer into the body, or a parameter), and why."""

    pointer: str | None = None
    parameter: str | None = None
    code: str
    message: str


class _Pointed(Rejected):
    """What knows where in a request it is: `problems` say it."""

    def __init__(
        self, message: str, *, problems: Sequence[Problem] = (), code: str | None = None
    ) -> None:
        super().__init__(message, code=code)
        self.problems = tuple(problems)


class Malformed(_Pointed):
    """The request cannot be read; where it has places at all, `problems` say where."""

    code = "request.malformed"


class UnsupportedType(Rejected):
    """The body has a media type that this route does not take."""

    code = "request.media_type"


class SignedOut(Rejected):
    """Somebody must be signed in."""

    code = "auth.missing"


class NotFound(Rejected):
    """There is no such thing, or it is another tenant's: nobody is told which."""

    code = "not_found"

    def __init__(self, what: str = "object") -> None:
        super().__init__(f"there is no such {what}", fields={"what": what})


class Conflict(Rejected):
    """The object's state does not allow this; `code` says what: `guest_list.full`."""

    code = "conflict"


class Stale(Rejected):
    """The object has another version than the one that If-Match names."""

    code = "version.stale"

    def __init__(self, version: int) -> None:
        super().__init__("it has changed since", fields={"version": version})


class NoMatch(Rejected):
    """The route changes something that others change too: say which version you saw."""

    code = "version.missing"


class Invalid(_Pointed):
    """Well-formed and wrong; `problems` say where."""

    code = "request.invalid"

    @classmethod
    def at(cls, pointer: str, message: str, *, code: str = "invalid") -> "Invalid":
        """One fault of the body, where `pointer` (RFC 6901) says."""
        return cls(message, problems=(Problem(pointer=pointer, code=code, message=message),))
