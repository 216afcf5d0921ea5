"""Settings of regions: which others there are, and which of them keeps the directory of tenants."""

import re
from dataclasses import dataclass
from typing import Final

from ops.settings import SettingsError, setting

KEY_CHARACTERS_MIN: Final = 32
_REGION: Final = re.compile(r"[a-z]{2}[0-9]{1,3}")
_URL: Final = re.compile(r"https?://[^/?#\s@]+")


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """One other region."""

    region: str
    """Its name, such as us1."""
    url: str = setting("", "Where it is reached from here: https:// and a host, without a path.")
    key: str = setting(
        "",
        "What the two regions know each other by: the same text in both, 32 characters or more.",
        secret=True,
    )
    public_url: str = setting(
        "", "Where clients reach it, told to those that are not passed on; empty: as `url` says."
    )

    def __post_init__(self) -> None:
        if not _REGION.fullmatch(self.region):
            raise ValueError("region: two letters and a number, such as us1")
        if not _URL.fullmatch(self.url):
            raise ValueError("url: http:// or https:// and a host, without a path")
        if self.public_url and not _URL.fullmatch(self.public_url):
            raise ValueError("public_url: http:// or https:// and a host, without a path")
        if len(self.key) < KEY_CHARACTERS_MIN:
            raise ValueError(f"key: at least {KEY_CHARACTERS_MIN} characters")


@dataclass(frozen=True, slots=True)
class RegionSettings:
    """The other regions, and how requests for their tenants are passed on."""

    peers: tuple[PeerSettings, ...] = setting(
        (), "The other regions: tables of region, url, key and public_url."
    )
    directory: str = setting(
        "", "Region that keeps the directory of tenants; empty: this one. The same in all regions."
    )
    operators: str = setting(
        "system", "Tenant whose members place tenants; it is at home in every region."
    )
    known_max: int = setting(
        100_000, "Tenants whose home one process remembers.", min=16, max=10_000_000
    )
    look_seconds: float = setting(
        1.0,
        "How often, in seconds, each process looks for tenants that have moved.",
        min=0.05,
        max=60,
    )
    pull_seconds: float = setting(
        2.0, "How often, in seconds, changes of the directory are copied here.", min=0.05, max=300
    )
    lease_seconds: float = setting(
        30.0,
        "Seconds that a region's claim to a new tenant waits for that region's confirmation.",
        min=1,
        max=600,
    )
    connect_seconds: float = setting(
        1.0, "Seconds that connecting to another region may take.", min=0.05, max=30
    )
    answer_seconds: float = setting(
        30.0, "Seconds that another region may take to begin its answer.", min=0.1, max=600
    )
    idle_seconds: float = setting(
        300.0,
        "Seconds in which another region must send something more of an answer that it has begun.",
        min=0.1,
        max=86_400,
    )
    forwards_max: int = setting(
        256, "Requests that one worker passes on to other regions at once.", min=1, max=100_000
    )

    def __post_init__(self) -> None:
        names = [peer.region for peer in self.peers]
        if len(set(names)) != len(names):
            raise ValueError("peers: two have the same region")
        if self.directory and not _REGION.fullmatch(self.directory):
            raise ValueError("directory: two letters and a number, such as eu1")

    def peer(self, region: str) -> PeerSettings | None:
        """The other region of this name."""
        return next((peer for peer in self.peers if peer.region == region), None)

    def public_url(self, region: str) -> str:
        """Where clients reach it; "" when it is not known."""
        peer = self.peer(region)
        return (peer.public_url or peer.url) if peer is not None else ""


def check_regions(settings: RegionSettings, region: str) -> None:
    """Raises SettingsError when the settings cannot be those of this region."""
    problems = []
    if settings.peer(region) is not None:
        problems.append(f"regions.peers: {region} is this region; name the others")
    directory = settings.directory or region
    if directory != region and settings.peer(directory) is None:
        problems.append(f"regions.directory: {directory} is not among regions.peers")
    if problems:
        raise SettingsError(*problems)
