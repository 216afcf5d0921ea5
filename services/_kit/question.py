"""What one service asks another: a typed question, declared in the answering service's `api.py`.

    ACCOUNT: Final = Question("user-auth.account", AskAccount, Account)      user_auth/api.py
    answers={ACCOUNT: account}                                               user_auth/service.py
    found = await store.ask(ACCOUNT, AskAccount(id))                         whoever asks

Its answer is an async function of the answering service, `(store, asked) -> answer`. It runs as
that service, in the tenant of whoever asks and on a connection of its own. One that writes commits
by itself, with its audit row, before the asker goes on, and what it did stays done when the asker
fails later: so what is asked for must do no harm when it is left over. What it refuses reaches the
asker as it was raised.
"""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ops.frozen import Frozen

A = TypeVar("A", bound=Frozen)
R = TypeVar("R")


@dataclass(frozen=True, slots=True, eq=False)
class Question(Generic[A, R]):
    """One question; known by itself, not by its name."""

    name: str
    """For the audit log, `service.verb`."""
    asked: type[A]
    answer: type[R] | Any
    """None where there is nothing to say."""
    writes: bool = False
