"""What guest lists do later: write invitations, and close lists whose time is over."""

from datetime import UTC, datetime
from typing import Final

from services._jobs.job import Job
from services._kit.record import Input
from services.entertainment.guest_list.logic import Close
from services.entertainment.guest_list.store import GuestStore

ENDED_MAX: Final = 100
"""Lists that one run closes; the rest is the next one's."""


class Invitation(Input):
    """Whose invitation to write."""

    guest: str


async def write_invitation(store: GuestStore, arguments: Invitation) -> None:
    """Writes the letter of a guest who was invited."""
    await store.write_invitation(arguments.guest)


async def close_ended(store: GuestStore) -> None:
    """Closes a tenant's lists whose time is over."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    for ended in await store.ended(now, ENDED_MAX):
        await store.run(Close(ended))


WRITE_INVITATION: Final = Job("write_invitation", write_invitation, timeout_seconds=10)
CLOSE_ENDED: Final = Job(
    "close_ended", close_ended, timeout_seconds=60, every_seconds=60, tenants_of="stream"
)
