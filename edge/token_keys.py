"""Where a node's token keys are, and the command that mints a token with them.

`nexus token` is for operators and tests until the identity services issue tokens: it signs with the
keys that the node's own gateway verifies with, so whoever may read their file may be anybody.
"""

from pathlib import Path

from edge.settings import Settings
from ops import run_dir
from ops.clock import SYSTEM, Clock
from ops.listeners import split_host_port
from ops.settings import SettingsError
from ops.state.places import places
from ops.tokens import Issuer, load_keys

SECONDS_DEFAULT = 3_600
SECONDS_MAX = 31_536_000


def key_file(settings: Settings) -> Path:
    """The file of the keys."""
    named = settings.tokens.key_file
    if named != Path():
        return named.absolute()
    if "state" in settings.node.roles:
        # With the region's state, so that tokens outlive a restart.
        return places(settings).folder / "token-keys.json"
    _, port = split_host_port(settings.edge.listen[0])
    return run_dir.choose(settings.node.run_dir, port) / "token-keys.json"


def mint(
    settings: Settings,
    *,
    tenant: str,
    subject: str,
    permissions: str,
    plan: str = "",
    seconds: int = SECONDS_DEFAULT,
    clock: Clock = SYSTEM,
) -> str:
    """A token. permissions: separated by commas or spaces. Raises SettingsError, Rejected."""
    if not tenant or not subject:
        raise SettingsError("--tenant and --subject: a token names both")
    if not 1 <= seconds <= SECONDS_MAX:
        raise SettingsError(f"--seconds: from 1 to {SECONDS_MAX}")
    issuer = Issuer(load_keys(key_file(settings)), issuer=settings.tokens.issuer)
    more = {"plan": plan} if plan else {}
    return issuer.issue(
        subject,
        tenant=tenant,
        permissions=permissions.replace(",", " ").split(),
        seconds=seconds,
        now=clock.unix(),
        **more,
    )
