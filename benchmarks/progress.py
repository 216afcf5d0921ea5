"""How far a benchmark is: a bar on a terminal, nothing anywhere else."""

import sys
import time
from types import TracebackType
from typing import Final, Self, TextIO

WIDTH: Final = 30
_PAUSE_SECONDS: Final = 0.1


class Progress:
    """A line that is drawn over itself. `steps`: units of work in all, may grow.

    Enter to begin, leave to clear the line.
    """

    def __init__(self, steps: float = 0, out: TextIO | None = None) -> None:
        self.out = out or sys.stderr
        self.shown = self.out.isatty()
        self.steps = steps
        self.done = 0.0
        self.text = ""
        self._drawn_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.shown:
            self.out.write("\r\x1b[K")
            self.out.flush()

    def expect(self, steps: float) -> None:
        """More work is coming than was known."""
        self.steps += steps

    def say(self, text: str) -> None:
        """What is being done now."""
        self.text = text
        self._draw()

    def advance(self, steps: float = 1) -> None:
        """So much is done."""
        self.done += steps
        if time.monotonic() - self._drawn_at >= _PAUSE_SECONDS:
            self._draw()

    def bar(self) -> str:
        """The line as it stands."""
        share = min(self.done / self.steps, 1.0) if self.steps else 0.0
        full = round(share * WIDTH)
        return f"[{'#' * full}{'.' * (WIDTH - full)}] {share:4.0%} {self.text}"

    def _draw(self) -> None:
        if not self.shown:
            return
        self._drawn_at = time.monotonic()
        self.out.write(f"\r\x1b[K{self.bar()}")
        self.out.flush()
