"""What the doctor finds of regions: does each other one answer, and know this one by their key.

It asks as a region asks the directory, and changes nothing.
"""

import ipaddress
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from edge.finding import Finding
from edge.regions.peers import CLOCK_SECONDS, PATH, signed
from edge.settings import Settings
from ops.clock import SYSTEM
from ops.region_settings import PeerSettings, check_regions
from ops.settings import SettingsError

_SECONDS: Final = 3.0
_QUESTION: Final = f"{PATH}/changes?after=0"
_KNOWN: Final = frozenset({200, 304, 421})
"""Answers to whoever signed well: 421 where the directory is not kept."""


def examine(settings: Settings) -> Iterator[Finding]:
    """Every finding. Cost: some milliseconds a region, and seconds for one that is silent."""
    regions = settings.regions
    try:
        check_regions(regions, settings.node.region)
    except SettingsError as fault:
        yield Finding("regions", "fail", fault.message, "see docs/regions.md")
        return
    for peer in regions.peers:
        yield _peer(settings, peer)
        if peer.url.startswith("http://") and not _is_loopback(peer.url):
            detail = f"{peer.url}: credentials of clients travel there unencrypted"
            yield Finding(f"region {peer.region} url", "warn", detail, "give an https:// address")


def _peer(settings: Settings, peer: PeerSettings) -> Finding:
    check, region = f"region {peer.region}", settings.node.region
    authorization = signed(
        peer.key,
        source=region,
        target=peer.region,
        method="GET",
        path=_QUESTION,
        body=b"",
        at=int(SYSTEM.unix()),
    )
    request = urllib.request.Request(  # noqa: S310  the settings take http and https alone
        peer.url + _QUESTION, headers={"Authorization": authorization}
    )
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310  as above
            status = int(answer.status)
    except urllib.error.HTTPError as refused:
        status = refused.code
    except OSError as fault:
        detail = f"{peer.url} does not answer: {fault}"
        advice = "requests for its tenants are answered 503 until it does"
        return Finding(check, "warn", detail, advice)
    if status in _KNOWN:
        return Finding(check, "ok", f"{peer.url} answers and knows {region}")
    if status == 401:
        advice = (
            f"name {region} among its regions.peers, with the same key; clocks may be"
            f" {CLOCK_SECONDS} s apart"
        )
        return Finding(check, "fail", f"{peer.url} does not know {region}", advice)
    return Finding(check, "warn", f"{peer.url} answers {status}", "is it a node with services?")


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
