"""What these tests share: the machine's own loopback alone, as `scripts/in-network` makes it."""

from tests.end_to_end.conftest import prove, slack  # noqa: F401  fixtures, taken over
