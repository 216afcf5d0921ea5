"""What goes wrong with the database, told apart: what may be repeated, what is the caller's fault.

A fault of our own SQL stays what the client library raises: it is a bug.
"""

from typing import Final

from asyncpg import exceptions as pg

from ops.errors import Rejected, Unavailable

FAULTS: Final = (
    pg.PostgresError,
    pg.InterfaceError,
    pg.InternalClientError,
    ConnectionError,
    TimeoutError,
    OSError,
)
"""What the client library and the system raise when something is wrong."""


class DatabaseFault(Unavailable):
    """The database cannot answer now; repeating the whole request may help.

    db.unavailable  no connection, or it broke          db.busy      none became free in time
    db.slow         a statement took too long           db.conflict  two transactions met
    """

    code = "db.unavailable"


class Duplicate(Rejected):
    """A unique constraint, named in `constraint`, already has this value."""

    code = "db.duplicate"

    def __init__(self, constraint: str) -> None:
        super().__init__("this exists already", fields={"constraint": constraint})
        self.constraint = constraint


class Violation(Rejected):
    """A check, foreign key or not-null constraint, named in `constraint`, does not hold."""

    code = "db.violation"

    def __init__(self, constraint: str) -> None:
        super().__init__("this breaks a rule of the data", fields={"constraint": constraint})
        self.constraint = constraint


def translated(fault: BaseException) -> BaseException:
    """What of ours a fault of the database is; a fault of our own SQL stays what it is."""
    if isinstance(fault, pg.UniqueViolationError | pg.ExclusionViolationError):
        return Duplicate(fault.constraint_name or "")
    if isinstance(fault, pg.IntegrityConstraintViolationError):
        return Violation(fault.constraint_name or "")
    if isinstance(
        fault, pg.SerializationError | pg.DeadlockDetectedError | pg.LockNotAvailableError
    ):
        return DatabaseFault("two changes met", code="db.conflict", retry_after_seconds=1)
    if isinstance(fault, pg.QueryCanceledError | TimeoutError):
        return DatabaseFault("the database took too long", code="db.slow", retry_after_seconds=1)
    if isinstance(fault, _AWAY) or _says_away(fault):
        return DatabaseFault("the database cannot be reached", retry_after_seconds=1)
    return fault


def _says_away(fault: BaseException) -> bool:
    """Errors that mean other things as well: the client library's for a connection that is gone,
    and the server's for a role that no migration has made yet."""
    if isinstance(fault, pg.InvalidParameterValueError):
        return "role" in str(fault)
    return isinstance(fault, pg.InterfaceError) and "closed" in str(fault)


_AWAY: Final = (
    pg.PostgresConnectionError,
    pg.OperatorInterventionError,
    pg.InsufficientResourcesError,
    pg.InvalidAuthorizationSpecificationError,
    pg.IdleInTransactionSessionTimeoutError,
    pg.InternalClientError,
    OSError,
)
