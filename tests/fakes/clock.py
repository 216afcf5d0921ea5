"""A clock that stands still until it is told to go on."""


class FakeClock:
    """Satisfies `ops.clock.Clock`."""

    def __init__(self, unix: float = 1_750_000_000.0, monotonic: float = 1_000.0) -> None:
        self._unix = unix
        self._monotonic = monotonic

    def unix(self) -> float:
        return self._unix

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Both clocks go on."""
        assert seconds >= 0
        self._unix += seconds
        self._monotonic += seconds

    def step(self, seconds: float) -> None:
        """Somebody sets the wall clock, either way; the monotonic one does not notice."""
        self._unix += seconds
