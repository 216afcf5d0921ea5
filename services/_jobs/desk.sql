-- What `desk.py` asks of one schema's queue, as the role nexus_relay. A name in braces is filled in:
-- {name} is the schema, {now} the time ($1, or the database's), {max} the most rows of a sweep.

-- name: look
SELECT '{name}' AS schema, EXISTS (SELECT FROM {job} WHERE state = 'ready') AS ready,
    extract(epoch FROM least(
        (SELECT min(run_at) FROM {job} WHERE state = 'delayed'),
        (SELECT min(lease_until) FROM {job} WHERE state = 'running')
    ) - {now})::float8 AS due,
    extract(epoch FROM (SELECT min(next_at) FROM {schedule} WHERE name = ANY($2)) - {now})::float8
        AS slot

-- name: claim
WITH RECURSIVE top AS MATERIALIZED (
    SELECT priority FROM {job} WHERE state = 'ready' AND name = ANY($2)
    ORDER BY priority DESC LIMIT 1
), turn AS (
    (SELECT tenant, 1 AS number FROM {job}
        WHERE state = 'ready' AND priority = (SELECT priority FROM top) {after}
        ORDER BY tenant LIMIT 1)
    UNION ALL
    SELECT next.tenant, turn.number + 1 FROM turn CROSS JOIN LATERAL (
        SELECT tenant FROM {job}
        WHERE state = 'ready' AND priority = (SELECT priority FROM top) AND tenant > turn.tenant
        ORDER BY tenant LIMIT 1
    ) AS next WHERE turn.number <= $3::int
), taken AS (
    SELECT picked.id, turn.number, (SELECT count(*) FROM turn) > $3::int AS more
    FROM turn CROSS JOIN LATERAL (
        SELECT id FROM {job}
        WHERE state = 'ready' AND priority = (SELECT priority FROM top) AND tenant = turn.tenant
            AND name = ANY($2)
        ORDER BY run_at, id LIMIT {share} FOR UPDATE SKIP LOCKED
    ) AS picked WHERE turn.number <= $3::int
)
UPDATE {job} AS job SET state = 'running', token = token + 1,
    lease_until = {now} + make_interval(secs => $4)
FROM taken WHERE job.id = taken.id
RETURNING job.id, tenant, name, arguments, token, failures, taken.number, taken.more,
    extract(epoch FROM {now} - run_at)::float8 AS waited_seconds

-- name: promote
WITH due AS (
    SELECT id FROM {job} WHERE state = 'delayed' AND run_at <= {now}
    ORDER BY run_at LIMIT {max} FOR UPDATE SKIP LOCKED
) UPDATE {job} AS job SET state = 'ready' FROM due WHERE job.id = due.id

-- name: expire
WITH late AS (
    SELECT id FROM {job} WHERE state = 'running' AND lease_until <= {now}
    ORDER BY lease_until LIMIT {max} FOR UPDATE SKIP LOCKED
) UPDATE {job} AS job SET losses = losses + 1, lease_until = NULL, error = $3,
    state = CASE WHEN losses + 1 >= $2 THEN 'dead' ELSE 'ready' END,
    ended_at = CASE WHEN losses + 1 >= $2 THEN {now} END
FROM late WHERE job.id = late.id RETURNING name, state

-- name: extend
UPDATE {job} AS job SET lease_until = {now} + make_interval(secs => $2)
FROM unnest($3::text[], $4::bigint[]) AS held (id, token)
WHERE job.id = held.id AND job.token = held.token AND state = 'running' RETURNING job.id

-- name: release
WITH freed AS (
    UPDATE {job} AS job SET state = 'ready', lease_until = NULL
    FROM unnest($1::text[], $2::bigint[]) AS held (id, token)
    WHERE job.id = held.id AND job.token = held.token AND state = 'running' RETURNING 1
) SELECT pg_notify('{channel}', '{name} 0') WHERE EXISTS (SELECT FROM freed)

-- name: fail
UPDATE {job} SET state = CASE WHEN $5 THEN 'dead' ELSE 'delayed' END, lease_until = NULL,
    failures = failures + 1, error = $4, ended_at = CASE WHEN $5 THEN {now} END,
    run_at = {now} + make_interval(secs => $6)
WHERE id = $2 AND token = $3 AND state = 'running'

-- name: register
INSERT INTO {schedule} AS known (name, spec, next_at) VALUES ($1, $2, $3)
ON CONFLICT (name) DO UPDATE SET spec = excluded.spec, next_at = excluded.next_at
WHERE known.spec <> excluded.spec

-- name: due_slots
SELECT name, next_at, {now} AS now FROM {schedule} WHERE name = ANY($2) AND next_at <= {now}
FOR UPDATE SKIP LOCKED

-- name: tenants
SELECT {name}.job_tenants($1)

-- name: insert_slot
INSERT INTO {job} (id, tenant, name, arguments, unique_key, priority, state, run_at)
SELECT id, tenant, $3::text, ''::bytea, '{key}', $4::smallint, 'ready', $5::timestamptz
FROM unnest($1::text[], $2::text[]) AS each (id, tenant)
ON CONFLICT (tenant, name, unique_key) WHERE unique_key <> '' AND state <> 'dead' DO NOTHING

-- name: move_slot
UPDATE {schedule} SET next_at = $2 WHERE name = $1

-- name: dead
SELECT id, tenant, name, failures, losses, error, ended_at FROM {job}
WHERE state = 'dead' AND ($1 = '' OR name = $1) ORDER BY ended_at DESC LIMIT $2

-- name: replay
WITH back AS (
    UPDATE {job} SET state = 'ready', failures = 0, losses = 0, ended_at = NULL, run_at = {now}
    WHERE id = $2 AND state = 'dead' RETURNING id
) SELECT id, pg_notify('{channel}', '{name} 0') FROM back

-- name: count_dead
SELECT count(*) FROM {job} WHERE state = 'dead'

-- name: forget
WITH old AS (
    SELECT id FROM {job} WHERE state = 'dead' AND ended_at < {now} - make_interval(secs => $2)
    ORDER BY ended_at LIMIT {max} FOR UPDATE SKIP LOCKED
) DELETE FROM {job} AS job USING old WHERE job.id = old.id
