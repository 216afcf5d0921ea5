"""Which lines of a Python module a piece of work reaches, by `sys.settrace`; of the standard
library alone, and only where it is asked for: tracing makes everything slow."""

import sys
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import CodeType, FrameType, ModuleType
from typing import Any


@dataclass(slots=True)
class Lines:
    """The lines of one module's functions, and those that were reached."""

    all: set[int]
    reached: set[int] = field(default_factory=set)

    @property
    def share(self) -> float:
        return len(self.reached & self.all) / len(self.all)

    @property
    def missed(self) -> list[int]:
        return sorted(self.all - self.reached)


def _lines(code: CodeType) -> Iterator[int]:
    """Lines of the functions in a module's code; its own top level runs at import."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if constant.co_flags & 0x2:  # CO_NEWLOCALS: a function, not a class's body
                first = constant.co_firstlineno
                yield from (line for _, _, line in constant.co_lines() if line and line != first)
            yield from _lines(constant)


@contextmanager
def traced(module: ModuleType, only: AbstractSet[str] = frozenset()) -> Iterator[Lines]:
    """Watches the module's functions; `only` these, by name, when any are named."""
    path = str(module.__file__)
    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        whole = compile(file.read(), path, "exec")
    code = [
        constant
        for constant in whole.co_consts
        if isinstance(constant, CodeType) and (not only or constant.co_name in only)
    ]
    found = Lines({line for each in code for line in _all(each)})
    before = sys.gettrace()

    def follow(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename != path:
            return None
        if event == "line":
            found.reached.add(frame.f_lineno)
        return follow

    sys.settrace(follow)
    try:
        yield found
    finally:
        sys.settrace(before)


def _all(code: CodeType) -> Iterator[int]:
    """A function's lines, or those of a class's functions."""
    if code.co_flags & 0x2:
        first = code.co_firstlineno
        yield from (line for _, _, line in code.co_lines() if line and line != first)
    yield from _lines(code)
