-- The queue of durable jobs of one service, and when each of its schedules fires next.
--
--   delayed ──due──▶ ready ──claim──▶ running ──done──▶ (gone)
--      ▲               ▲                 │
--      └──── failed ───┼── lease lost ───┤
--                      └──── replay ─── dead

CREATE TABLE job (
    id text PRIMARY KEY,
    tenant text NOT NULL,
    name text NOT NULL,
    arguments bytea NOT NULL,
    unique_key text NOT NULL DEFAULT '',
    priority smallint NOT NULL DEFAULT 0,
    state text NOT NULL CHECK (state IN ('delayed', 'ready', 'running', 'dead')),
    run_at timestamptz NOT NULL,
    lease_until timestamptz,
    token bigint NOT NULL DEFAULT 0,
    failures integer NOT NULL DEFAULT 0,
    losses integer NOT NULL DEFAULT 0,
    error text NOT NULL DEFAULT '',
    ended_at timestamptz,
    CHECK ((state = 'running') = (lease_until IS NOT NULL)),
    CHECK ((state = 'dead') = (ended_at IS NOT NULL))
) WITH (
    -- Rows live for a moment: dead ones are swept away long before a fifth of the table is.
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000
);
COMMENT ON COLUMN job.token IS 'grows with each claim: who has an older one may not finish the job';
COMMENT ON COLUMN job.losses IS 'how often its worker was lost while it ran';

CREATE INDEX job_ready ON job (priority DESC, tenant, run_at, id) WHERE state = 'ready';
CREATE INDEX job_due ON job (run_at) WHERE state = 'delayed';
CREATE INDEX job_lease ON job (lease_until) WHERE state = 'running';
CREATE INDEX job_dead ON job (ended_at) WHERE state = 'dead';
CREATE UNIQUE INDEX job_once ON job (tenant, name, unique_key)
    WHERE unique_key <> '' AND state <> 'dead';

CREATE TABLE job_schedule (
    name text PRIMARY KEY,
    spec text NOT NULL,
    next_at timestamptz NOT NULL
);
COMMENT ON TABLE job_schedule IS 'shared: schedules are the service''s, whoever its tenants are';

-- Runs as the schema's owner, who sees all rows; the relay learns names of tenants, nothing else.
CREATE FUNCTION job_tenants(of_table text) RETURNS SETOF text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    RETURN QUERY EXECUTE format(
        'WITH RECURSIVE found AS (
            (SELECT tenant FROM %1$I ORDER BY tenant LIMIT 1)
            UNION ALL
            SELECT (SELECT tenant FROM %1$I WHERE tenant > found.tenant ORDER BY tenant LIMIT 1)
                FROM found WHERE found.tenant IS NOT NULL
        ) SELECT tenant FROM found WHERE tenant <> ''''', of_table);
END $$;

-- Ends a job, in the transaction of its effect. A plan that was made while the table was empty would
-- read all of it.
CREATE FUNCTION job_done(of_id text, of_token bigint) RETURNS boolean
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan = off AS $$
BEGIN
    DELETE FROM job WHERE id = of_id AND token = of_token AND state = 'running';
    RETURN FOUND;
END $$;

CREATE POLICY relay ON job TO nexus_relay USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON job, job_schedule TO nexus_relay;

DO $$
BEGIN
    EXECUTE format('REVOKE UPDATE ON job FROM %I', current_setting('nexus.run_role'));
    EXECUTE format('REVOKE INSERT, UPDATE, DELETE ON job_schedule FROM %I',
        current_setting('nexus.run_role'));
    REVOKE ALL ON FUNCTION job_tenants FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION job_tenants TO nexus_relay;
END $$;
