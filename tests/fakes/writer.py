"""An HLS writer that writes nothing and remembers what it was told."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from media.hls.units import UnitLike


@dataclass
class Info:
    width: int = 1280
    height: int = 720


@dataclass
class FakeWriter:
    """Set `error` to have it fail, `hungry` to have it want key frames."""

    stream: str
    pushed: list[UnitLike] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    hungry: bool = False
    error: Exception | None = None
    over: bool = False

    def push(self, units: Sequence[UnitLike], now_unix: float) -> bool:  # noqa: ARG002
        self._maybe_fail()
        self.pushed.extend(units)
        return True

    def wants_keyframe(self, now_unix: float) -> bool:  # noqa: ARG002
        hungry, self.hungry = self.hungry, False
        return hungry

    def publisher_lost(self, now_unix: float) -> None:  # noqa: ARG002
        self._maybe_fail()
        self.calls.append("lost")

    def demand_aac(self, now_unix: float) -> None:  # noqa: ARG002
        self.calls.append("aac")

    def tick(self, now_unix: float) -> bool:  # noqa: ARG002
        self._maybe_fail()
        return False

    def end(self) -> None:
        self.calls.append("end")

    def close(self) -> None:
        self.calls.append("close")

    def info(self) -> Info:
        return Info()

    def _maybe_fail(self) -> None:
        if self.error is not None:
            raise self.error
