"""One line of what the doctor says."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; `advice` is empty when all is well."""

    check: str
    state: State
    detail: str
    advice: str = ""
