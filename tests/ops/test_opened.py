"""What a part opens is closed in the reverse order, also when it could not open all of it."""

from contextlib import AsyncExitStack

import pytest

from ops.opened import Opened


class Part(Opened):
    """Opens three things; the last one may fail."""

    def __init__(self, *, whole: bool) -> None:
        self.open: list[int] = []
        self.closed: list[int] = []
        self._whole = whole

    async def _start(self, stack: AsyncExitStack) -> None:
        for number in range(3):
            if number == 2 and not self._whole:
                raise ValueError("there is no third")
            self.open.append(number)
            stack.callback(self.closed.append, number)


async def test_leaving_closes_in_the_reverse_order() -> None:
    part = Part(whole=True)
    async with part as entered:
        assert entered is part
        assert (part.open, part.closed) == ([0, 1, 2], [])
    assert part.closed == [2, 1, 0]


async def test_what_cannot_be_opened_whole_is_closed() -> None:
    part = Part(whole=False)
    with pytest.raises(ValueError, match="third"):
        await part.__aenter__()
    assert part.closed == [1, 0]
