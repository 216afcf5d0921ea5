"""The three kinds of failure, as types; `edge/problems.py` alone makes HTTP statuses of them.

    Exception
    ├── NexusError            never raised itself
    │   ├── Rejected          the caller's fault: the same request fails again
    │   │   └── …             SettingsError, ListenError; media/errors.py, edge/access.py
    │   └── Unavailable       the world's fault: may be repeated, after `retry_after_seconds`
    │       └── …
    └── anything else         a bug of ours: ends its task, is logged with its traceback

`code` is stable and dotted (`stream.not_live`), for programs. The message is a sentence for people
and safe to show to whoever asked: it never holds a secret, a path of the machine or a traceback.
`fields` are details for programs and logs, as safe as the message.
"""

from collections.abc import Mapping
from typing import ClassVar

Field = str | int | float | bool | None


class NexusError(Exception):
    """What expected failures have in common. A subclass sets `code`, or each raise gives one."""

    code: str = "internal"
    retryable: ClassVar[bool] = False

    def __init__(
        self, message: str, *, code: str | None = None, fields: Mapping[str, Field] | None = None
    ) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        self.message = message
        self.fields: Mapping[str, Field] = dict(fields or {})

    def __str__(self) -> str:
        return self.message


class Rejected(NexusError):  # noqa: N818  the kind's name in every document
    """The caller's fault; repeating it changes nothing."""

    code = "rejected"


class Unavailable(NexusError):  # noqa: N818  the kind's name in every document
    """The world's fault; it may be repeated after `retry_after_seconds` (0: at once)."""

    code = "unavailable"
    retryable = True

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        fields: Mapping[str, Field] | None = None,
        retry_after_seconds: int = 0,
    ) -> None:
        super().__init__(message, code=code, fields=fields)
        self.retry_after_seconds = retry_after_seconds
