"""The routes of backend-api: path, permission, typed handler.

`/compose` and `/graphql` beside them are edge's: they call operations, and are none.
"""

from typing import Final

from services._kit.actor import Actor, Forbidden
from services._kit.errors import Invalid, Problem
from services._kit.paging import Slice
from services._kit.record import Page
from services._kit.service import Route
from services.platform.backend_api.api import (
    BackendApiSettings,
    Checked,
    Config,
    ConfigActivated,
    ConfigDocument,
    ConfigRolledBack,
    ConfigVersion,
    ConfigVersionId,
    NewConfig,
    Notice,
    OpenBreaker,
    Purge,
)
from services.platform.backend_api.logic.reading import ConfigError, checksum, from_plain
from services.platform.backend_api.store import ConfigStore


async def validate(body: NewConfig) -> Checked:
    """Says everything that is wrong with a configuration, and keeps nothing."""
    try:
        return Checked(valid=True, checksum=checksum(from_plain(body.config)))
    except ConfigError as error:
        return Checked(valid=False, errors=error.faults)


async def configs(store: ConfigStore, page: Slice) -> Page[ConfigVersion]:
    """The versions, the newest first."""
    return await store.list(page)


async def create_config(store: ConfigStore, body: NewConfig) -> ConfigDocument:
    """Keeps a configuration as a draft."""
    return await store.add(_read(body), note=body.note)


async def config(store: ConfigStore, id: ConfigVersionId) -> ConfigDocument:
    """A version and what it says."""
    return await store.get(id)


async def active_config(store: ConfigStore) -> ConfigDocument:
    """What the gateway executes."""
    return await store.active()


async def activate(
    store: ConfigStore, actor: Actor, id: ConfigVersionId, expected: int | None
) -> ConfigVersion:
    """Has the gateway execute a version; every worker takes it over at once."""
    # Whose it is not is told that it is not there, before anything else.
    await store.get(id)
    _check_operator(store, actor)
    made = await store.activate(id, expected=expected)
    await store.publish(ConfigActivated(config=made.id, number=made.number, checksum=made.checksum))
    await store.tell(Notice(kind="config"))
    return made


async def rollback(store: ConfigStore, actor: Actor) -> ConfigVersion:
    """Has the gateway execute again what it executed before."""
    _check_operator(store, actor)
    made, before = await store.roll_back()
    await store.publish(
        ConfigRolledBack(
            config=made.id, number=made.number, checksum=made.checksum, instead_of=before
        )
    )
    await store.tell(Notice(kind="config"))
    return made


async def purge(store: ConfigStore, actor: Actor, body: Purge) -> None:
    """Drops kept answers in every worker."""
    _check_operator(store, actor)
    await store.tell(Notice(kind="purge", tenant=body.tenant, key=body.key))


async def breakers(store: ConfigStore, page: Slice) -> Page[OpenBreaker]:
    """The upstreams that workers leave alone just now, or are trying again."""
    return await store.breakers(page)


async def flush(store: ConfigStore, actor: Actor) -> None:
    """Has every worker look at each credential anew."""
    _check_operator(store, actor)
    await store.tell(Notice(kind="flush"))


def _read(body: NewConfig) -> Config:
    try:
        return from_plain(body.config)
    except ConfigError as error:
        problems = [
            Problem(pointer=f"/config{fault.pointer}", code=fault.code, message=fault.message)
            for fault in error.faults
        ]
        raise Invalid("this configuration cannot be used", problems=problems) from None


def _check_operator(store: ConfigStore, actor: Actor) -> None:
    settings: BackendApiSettings = store.around.settings
    if actor.tenant != settings.operator_tenant:
        raise Forbidden("only the operator's tenant changes what the gateway does")


ROUTES: Final = (
    Route("POST", "/configs:validate", validate, needs="backend-api.config.read"),
    Route("GET", "/configs", configs, needs="backend-api.config.read"),
    Route("POST", "/configs", create_config, needs="backend-api.config.write"),
    Route("GET", "/configs/{id}", config, needs="backend-api.config.read"),
    Route("GET", "/active-config", active_config, needs="backend-api.config.read"),
    Route("POST", "/configs/{id}:activate", activate, needs="backend-api.config.activate"),
    Route("POST", "/configs:rollback", rollback, needs="backend-api.config.activate"),
    Route("GET", "/breakers", breakers, needs="backend-api.breaker.read"),
    Route("POST", "/cache:purge", purge, needs="backend-api.cache.purge"),
    Route("POST", "/credentials:flush", flush, needs="backend-api.credential.flush"),
)
