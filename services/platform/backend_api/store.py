"""All SQL of backend-api. Row-level security shows the session's tenant alone."""

from typing import Final

import msgspec

from ops.db import Row, Session
from services._kit.errors import Conflict, NotFound, Stale
from services._kit.paging import Slice
from services._kit.record import Page
from services._kit.store import Store
from services.platform.backend_api.api import (
    BREAKER_SECONDS,
    CHANNEL,
    BreakerClosed,
    BreakerOpened,
    Config,
    ConfigDocument,
    ConfigState,
    ConfigVersion,
    Notice,
    OpenBreaker,
    QuotaExceeded,
    Report,
)
from services.platform.backend_api.logic.reading import checksum, encoded

SCHEMA: Final = "backend_api"
_COLUMNS: Final = (
    "id, number, state, checksum, note, created_by, version,"
    " to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') AS created_at,"
    " to_char(activated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') AS activated_at"
)


class ConfigStore(Store):
    """The hands of one call."""

    async def get(self, id: str) -> ConfigDocument:
        """A version with what it says. Raises NotFound."""
        row = await self.db.row(
            f"SELECT {_COLUMNS}, body FROM config_version WHERE id = $1",  # noqa: S608  a constant
            id,
        )
        if row is None:
            raise NotFound("configuration")
        return _document(row)

    async def active(self) -> ConfigDocument:
        """The version that is executed. Raises NotFound: none is."""
        found = await read_active(self.db)
        if found is None:
            raise NotFound("active configuration")
        return found

    async def list(self, page: Slice) -> Page[ConfigVersion]:
        """The newest first."""
        (before,) = page.after or (None,)
        rows = await self.db.rows(
            f"SELECT {_COLUMNS} FROM config_version"  # noqa: S608  a constant
            " WHERE $1::bigint IS NULL OR number < $1 ORDER BY number DESC LIMIT $2",
            before,
            page.rows,
        )
        return page.page([_version(row) for row in rows], lambda found: (found.number,))

    async def add(self, config: Config, *, note: str) -> ConfigDocument:
        """Keeps a draft."""
        await self._lock()
        number = await self.db.value("SELECT coalesce(max(number), 0) + 1 FROM config_version")
        row = await self.db.row(
            "INSERT INTO config_version"  # noqa: S608  constants
            " (tenant, id, number, state, body, checksum, note, created_by)"
            " VALUES ($1, $2, $3, 'draft', $4, $5, $6, $7)"
            f" RETURNING {_COLUMNS}, body",
            self.tenant,
            self.new_id("cfg"),
            number,
            encoded(config).decode(),
            checksum(config),
            note,
            self.actor.id,
        )
        assert row is not None
        return _document(row)

    async def activate(self, id: str, *, expected: int | None) -> ConfigVersion:
        """Has a version executed in place of the one that is. Raises NotFound, Stale."""
        await self._lock()
        row = await self.db.row(
            "SELECT version, state FROM config_version WHERE id = $1 FOR UPDATE", id
        )
        if row is None:
            raise NotFound("configuration")
        if expected is not None and row["version"] != expected:
            raise Stale(row["version"])
        await self.db.run(
            "UPDATE config_version SET state = 'retired', version = version + 1"
            " WHERE state = 'active' AND id <> $1",
            id,
        )
        changed = await self.db.row(
            "UPDATE config_version SET state = 'active', version = version + 1,"  # noqa: S608
            " activated_at = now(), activation = nextval('activation') WHERE id = $1"
            f" RETURNING {_COLUMNS}",
            id,
        )
        assert changed is not None, "it is locked"
        return _version(changed)

    async def roll_back(self) -> tuple[ConfigVersion, str]:
        """Has the version executed again that was executed before, and tells which one is not any
        more. Raises Conflict: there is none."""
        await self._lock()
        rows = await self.db.rows(
            "SELECT id, state FROM config_version WHERE activation IS NOT NULL"
            " ORDER BY activation DESC LIMIT 2"
        )
        if len(rows) < 2 or rows[0]["state"] != ConfigState.ACTIVE:
            raise Conflict("nothing was active before", code="backend_api.nothing_before")
        last, before = (str(row["id"]) for row in rows)
        # What is rolled back is as if it had never been active: the next step goes further back.
        changed = await self.activate(before, expected=None)
        await self.db.run("UPDATE config_version SET activation = NULL WHERE id = $1", last)
        return changed, last

    async def breakers(self, page: Slice) -> Page[OpenBreaker]:
        """Those that are not closed, by upstream and worker."""
        upstream, worker = page.after or ("", "")
        rows = await self.db.rows(
            "SELECT upstream, worker, state,"
            " to_char(since AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') AS since"
            " FROM breaker WHERE (upstream, worker) > ($1, $2)"
            " AND seen_at > now() - make_interval(secs => $3)"
            " ORDER BY upstream, worker LIMIT $4",
            upstream,
            worker,
            BREAKER_SECONDS,
            page.rows,
        )
        found = [OpenBreaker(**row) for row in rows]
        return page.page(found, lambda one: (one.upstream, one.worker))

    async def note(self, report: Report) -> None:
        """Writes down what a worker of the gateway has seen, and publishes it."""
        worker, names = report.worker, list(report.breakers)
        await self.db.run(
            "DELETE FROM breaker WHERE (worker = $1 AND upstream <> ALL ($2::text[]))"
            " OR seen_at < now() - make_interval(secs => $3)",
            worker,
            names,
            BREAKER_SECONDS,
        )
        if names:
            await self.db.run(
                "INSERT INTO breaker (tenant, upstream, worker, state)"
                " SELECT $1, upstream, $2, state FROM unnest($3::text[], $4::text[])"
                " AS told (upstream, state)"
                " ON CONFLICT (tenant, upstream, worker) DO UPDATE SET seen_at = now(),"
                " state = excluded.state, since ="
                " CASE WHEN breaker.state = excluded.state THEN breaker.since ELSE now() END",
                self.tenant,
                worker,
                names,
                list(report.breakers.values()),
            )
        await self.publish(
            *(BreakerOpened(upstream=one, worker=worker) for one in report.opened),
            *(BreakerClosed(upstream=one, worker=worker) for one in report.closed),
            *(
                QuotaExceeded(
                    limit=one.limit, of_tenant=one.tenant, refused=one.refused, worker=worker
                )
                for one in report.exceeded
            ),
        )

    async def tell(self, notice: Notice) -> None:
        """Tells every worker, once this transaction has ended well."""
        text = msgspec.json.encode(notice).decode()
        await self.db.run("SELECT pg_notify($1, $2)", CHANNEL, text)

    async def _lock(self) -> None:
        """One change of a tenant's configuration at a time."""
        await self.db.run("SELECT pg_advisory_xact_lock(hashtextextended($1, 42))", self.tenant)


async def read_active(session: Session) -> ConfigDocument | None:
    """The version that a tenant has active; the session is pinned to the tenant."""
    row = await session.row(
        f"SELECT {_COLUMNS}, body FROM config_version WHERE state = 'active'"  # noqa: S608
    )
    return _document(row) if row is not None else None


def _document(row: Row) -> ConfigDocument:
    found = dict(row)
    config = msgspec.json.decode(found.pop("body"), type=Config)
    return ConfigDocument(**{**found, "state": ConfigState(row["state"]), "config": config})


def _version(row: Row) -> ConfigVersion:
    return ConfigVersion(**{**row, "state": ConfigState(row["state"])})
