"""What may be sent twice, how often, and when: retries after failures, hedges before answers.

Only what is idempotent by its method (RFC 9110, section 9.2.2) or carries an Idempotency-Key is
sent again, and only while its whole body is kept. The budget lets retries and hedges together be so
many per hundred requests, so that a struggling upstream is not asked twice as much just then.
"""

from typing import Final

from services.platform.backend_api.api import Retry

IDEMPOTENT: Final = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})
KEPT_BODY_BYTES_MAX: Final = 65_536
"""Longest body that is kept to be sent again."""
BUDGET_MAX: Final = 50.0
"""Most retries that may have been saved up."""
BUDGET_START: Final = 5.0
"""Retries there are before any request."""


def may_repeat(method: str, *, keyed: bool, body_kept: bool) -> bool:
    """Whether a request may be sent again."""
    return body_kept and (method in IDEMPOTENT or keyed)


def pause_seconds(rule: Retry, attempt: int, *, chance: float) -> float:
    """The pause before attempt number `attempt` (2 is the first retry); chance: from 0 to 1."""
    whole = rule.pause_ms / 1_000 * 2.0 ** (attempt - 2)
    return whole * (1.0 - chance / 2)


class Budget:
    """Each request earns a part of a retry."""

    def __init__(self, percent: int) -> None:
        self._earned = percent / 100
        self.left = BUDGET_START if percent else 0.0

    def request(self) -> None:
        """A first attempt is made."""
        self.left = min(BUDGET_MAX, self.left + self._earned)

    def spend(self) -> bool:
        """Takes one retry, if there is one."""
        if self.left < 1.0:
            return False
        self.left -= 1.0
        return True
