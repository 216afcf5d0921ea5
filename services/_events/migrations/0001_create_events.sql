-- What every service has of events: the log of its event-sourced state, its read models' places in
-- it, the outbox, and the way in. The run-time role appends to log and outbox, and reads them.

-- Transaction ids are ordered within one epoch. A log that was restored into another cluster, where
-- they begin anew, goes on in the next (see begin_epoch).
CREATE TABLE log_epoch (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    epoch integer NOT NULL,
    system bigint NOT NULL
);
COMMENT ON TABLE log_epoch IS 'shared: one row, the epoch that rows of the log are written in';
INSERT INTO log_epoch (epoch, system) SELECT 1, system_identifier FROM pg_control_system();

-- The event-sourced store ---------------------------------------------------------------------

CREATE TABLE stream (
    tenant text NOT NULL,
    id text NOT NULL,
    type text NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (id)
);

CREATE SEQUENCE event_seq;
CREATE TABLE event (
    stream text NOT NULL,
    version bigint NOT NULL,
    tenant text NOT NULL,
    id text NOT NULL,
    type text NOT NULL,
    data json NOT NULL,
    actor text NOT NULL,
    traceparent text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    epoch integer NOT NULL,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    seq bigint NOT NULL DEFAULT nextval('event_seq'),
    PRIMARY KEY (stream, version)
);
CREATE UNIQUE INDEX event_in_order ON event (epoch, xid, seq);

CREATE TABLE snapshot (
    tenant text NOT NULL,
    stream text NOT NULL PRIMARY KEY,
    version bigint NOT NULL,
    shape text NOT NULL,
    state json NOT NULL
);

-- Read models: where each generation of one has come to in the log ---------------------------------

CREATE TABLE projection (
    name text NOT NULL,
    generation integer NOT NULL,
    version integer NOT NULL,
    active boolean NOT NULL DEFAULT false,
    epoch integer NOT NULL DEFAULT 0,
    xid xid8 NOT NULL DEFAULT '0',
    seq bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (name, generation)
);
COMMENT ON TABLE projection IS 'shared: places in the log of every tenant';
CREATE UNIQUE INDEX projection_active ON projection (name) WHERE active;

-- The outbox: a ring of four days, emptied whole once its oldest day was relayed ---------------------

CREATE SEQUENCE outbox_seq;
CREATE TABLE outbox (
    slot smallint NOT NULL DEFAULT (extract(epoch FROM now())::bigint / 86400 % 4),
    partition smallint NOT NULL CHECK (partition BETWEEN 0 AND 63),
    epoch integer NOT NULL,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    seq bigint NOT NULL DEFAULT nextval('outbox_seq'),
    tenant text NOT NULL,
    id text NOT NULL,
    type text NOT NULL,
    source text NOT NULL,
    subject text NOT NULL,
    traceparent text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    data json NOT NULL
) PARTITION BY LIST (slot);
CREATE TABLE outbox_0 PARTITION OF outbox FOR VALUES IN (0);
CREATE TABLE outbox_1 PARTITION OF outbox FOR VALUES IN (1);
CREATE TABLE outbox_2 PARTITION OF outbox FOR VALUES IN (2);
CREATE TABLE outbox_3 PARTITION OF outbox FOR VALUES IN (3);
CREATE INDEX outbox_in_order ON outbox (partition, epoch, xid, seq);
CREATE INDEX outbox_by_age ON outbox (epoch, xid);

-- Up to where each of the 64 virtual partitions was relayed, and who relays it now.
CREATE TABLE relay_cursor (
    partition smallint PRIMARY KEY,
    epoch integer NOT NULL DEFAULT 0,
    xid xid8 NOT NULL DEFAULT '0',
    seq bigint NOT NULL DEFAULT 0,
    owner text NOT NULL DEFAULT '',
    fence bigint NOT NULL DEFAULT 0,
    lease_until timestamptz NOT NULL DEFAULT '-infinity'
);
COMMENT ON TABLE relay_cursor IS 'shared: places in the outbox of every tenant';
INSERT INTO relay_cursor (partition) SELECT generate_series(0, 63);

-- The way in: what was handled, and what could not be ------------------------------------------------

CREATE TABLE inbox (
    consumer text NOT NULL,
    event text NOT NULL,
    tenant text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, event)
);
CREATE INDEX inbox_by_age ON inbox USING brin (at);

CREATE SEQUENCE parked_seq;
CREATE TABLE parked (
    seq bigint PRIMARY KEY DEFAULT nextval('parked_seq'),
    tenant text NOT NULL,
    consumer text NOT NULL,
    event text NOT NULL,
    key text NOT NULL,
    envelope json NOT NULL,
    tries integer NOT NULL,
    dead boolean NOT NULL DEFAULT false,
    error text NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT now(),
    next_try_at timestamptz NOT NULL,
    UNIQUE (consumer, event)
);
CREATE INDEX parked_by_key ON parked (consumer, tenant, key, seq);
CREATE INDEX parked_by_time ON parked (consumer, next_try_at) WHERE NOT dead;

-- What relays and projectors ask ------------------------------------------------------------------
-- Plans are kept, and made while a table is empty, when reading all of it looks cheap: so these are
-- told to go by the indexes. Leases and cursors need not be flushed: a server that lost the last of
-- them relays again what was relayed.

-- The log behind a place, up to rows_max events; not `safe`: an older transaction may still commit.
CREATE FUNCTION read_log(
    after_epoch integer, after_xid xid8, after_seq bigint, rows_max integer
) RETURNS TABLE (
    stream text, version bigint, tenant text, type text, data json, at timestamptz,
    epoch integer, xid xid8, seq bigint, safe boolean
) LANGUAGE sql STABLE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
BEGIN ATOMIC
    SELECT e.stream, e.version, e.tenant, e.type, e.data, e.at, e.epoch, e.xid, e.seq,
        e.epoch < h.epoch OR e.xid < pg_snapshot_xmin(pg_current_snapshot())
    FROM log_epoch h, event e
    WHERE (e.epoch, e.xid, e.seq) > (after_epoch, after_xid, after_seq)
    ORDER BY e.epoch, e.xid, e.seq LIMIT rows_max;
END;

-- Which partitions have rows from a floor on, and the next floor: when all below it is relayed, it
-- need not be looked at again.
CREATE FUNCTION look_outbox(floor_epoch integer, floor_xid xid8)
RETURNS TABLE (epoch integer, xid xid8, partitions smallint[]) LANGUAGE sql STABLE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
BEGIN ATOMIC
    SELECT h.epoch, h.xmin, ARRAY(
        SELECT DISTINCT o.partition FROM outbox o
        WHERE (o.epoch, o.xid) >= (floor_epoch, floor_xid)
            AND (o.epoch < h.epoch OR o.xid < h.xmin)
    )
    FROM (SELECT e.epoch, pg_snapshot_xmin(pg_current_snapshot()) AS xmin FROM log_epoch e) h;
END;

-- Leases those of these partitions that are free and have something to relay, and returns up to
-- rows_max of each, oldest first. Rows of a transaction that may still commit, and all after it, are not seen.
CREATE FUNCTION claim_outbox(
    me text, lease_seconds double precision, rows_max integer, wanted smallint[]
) RETURNS TABLE (
    partition smallint, fence bigint, epoch integer, xid xid8, seq bigint, tenant text, id text,
    type text, source text, subject text, traceparent text, at timestamptz, data json
) LANGUAGE sql VOLATILE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
BEGIN ATOMIC
    SELECT set_config('synchronous_commit', 'off', true);
    WITH horizon AS (
        SELECT e.epoch, pg_snapshot_xmin(pg_current_snapshot()) AS xmin FROM log_epoch e
    ), free AS (
        SELECT c.partition FROM relay_cursor c
        WHERE c.partition = ANY (wanted) AND (c.lease_until < clock_timestamp() OR c.owner = me)
            AND EXISTS (
            SELECT FROM outbox o, horizon h
            WHERE o.partition = c.partition AND (o.epoch, o.xid, o.seq) > (c.epoch, c.xid, c.seq)
                AND (o.epoch < h.epoch OR o.xid < h.xmin)
        )
        FOR UPDATE OF c SKIP LOCKED
    ), mine AS (
        UPDATE relay_cursor c SET owner = me, fence = c.fence + 1,
            lease_until = clock_timestamp() + make_interval(secs => lease_seconds)
        FROM free f WHERE c.partition = f.partition
        RETURNING c.partition, c.fence, c.epoch, c.xid, c.seq
    )
    SELECT m.partition, m.fence, o.epoch, o.xid, o.seq, o.tenant, o.id, o.type, o.source,
        o.subject, o.traceparent, o.at, o.data
    FROM mine m CROSS JOIN LATERAL (
        SELECT x.* FROM outbox x, horizon h
        WHERE x.partition = m.partition AND (x.epoch, x.xid, x.seq) > (m.epoch, m.xid, m.seq)
            AND (x.epoch < h.epoch OR x.xid < h.xmin)
        ORDER BY x.epoch, x.xid, x.seq LIMIT rows_max
    ) o
    ORDER BY m.partition, o.epoch, o.xid, o.seq;
END;

-- Moves the cursors of leases that are still held, and gives the leases back; how many were held.
CREATE FUNCTION settle_outbox(
    partitions smallint[], fences bigint[], epochs integer[], xids xid8[], seqs bigint[]
) RETURNS bigint LANGUAGE sql VOLATILE BEGIN ATOMIC
    SELECT set_config('synchronous_commit', 'off', true);
    WITH settled AS (
        UPDATE relay_cursor c SET epoch = g.epoch, xid = g.xid, seq = g.seq,
            lease_until = '-infinity'
        FROM unnest(partitions, fences, epochs, xids, seqs) AS g (partition, fence, epoch, xid, seq)
        WHERE c.partition = g.partition AND c.fence = g.fence
        RETURNING 1
    )
    SELECT count(*) FROM settled;
END;

-- Whether all below a place was relayed in these partitions, by whomever.
CREATE FUNCTION settled_outbox(wanted smallint[], upto_epoch integer, upto_xid xid8)
RETURNS boolean LANGUAGE sql STABLE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
BEGIN ATOMIC
    SELECT NOT EXISTS (
        SELECT FROM relay_cursor c CROSS JOIN LATERAL (
            SELECT x.epoch, x.xid FROM outbox x
            WHERE x.partition = c.partition AND (x.epoch, x.xid, x.seq) > (c.epoch, c.xid, c.seq)
            ORDER BY x.epoch, x.xid, x.seq LIMIT 1
        ) o
        WHERE c.partition = ANY (wanted) AND (o.epoch, o.xid) < (upto_epoch, upto_xid)
    );
END;

-- Seconds since the oldest event that was not relayed yet, committed long enough ago or not.
CREATE FUNCTION outbox_lag_seconds() RETURNS double precision LANGUAGE sql STABLE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
BEGIN ATOMIC
    SELECT coalesce(extract(epoch FROM clock_timestamp() - min(o.at)), 0)::double precision
    FROM relay_cursor c CROSS JOIN LATERAL (
        SELECT x.at FROM outbox x
        WHERE x.partition = c.partition AND (x.epoch, x.xid, x.seq) > (c.epoch, c.xid, c.seq)
        ORDER BY x.epoch, x.xid, x.seq LIMIT 1
    ) o;
END;

-- Empties the day that the ring comes to next, if all of it was relayed; its slot, or null.
CREATE FUNCTION empty_outbox_slot() RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    next_slot integer := (extract(epoch FROM now())::bigint / 86400 + 1) % 4;
BEGIN
    IF NOT EXISTS (SELECT FROM outbox o WHERE o.slot = next_slot) OR EXISTS (
        SELECT FROM outbox o JOIN relay_cursor c USING (partition)
        WHERE o.slot = next_slot AND (o.epoch, o.xid, o.seq) > (c.epoch, c.xid, c.seq)
    ) THEN
        RETURN NULL;
    END IF;
    PERFORM set_config('lock_timeout', '200ms', true);
    EXECUTE format('TRUNCATE outbox_%s', next_slot);
    RETURN next_slot;
END $$;

-- The next epoch, when this cluster is not the one that wrote the log; the epoch. To be called
-- after a logical restore, before anything is written.
CREATE FUNCTION begin_epoch() RETURNS integer LANGUAGE sql VOLATILE BEGIN ATOMIC
    UPDATE log_epoch e SET epoch = e.epoch + 1, system = s.system_identifier
    FROM pg_control_system() s WHERE e.system <> s.system_identifier;
    SELECT epoch FROM log_epoch;
END;

-- Who may do what ----------------------------------------------------------------------------------

DO $$
DECLARE
    run_role text := current_setting('nexus.run_role');
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['outbox', 'event', 'log_epoch'] LOOP
        EXECUTE format('REVOKE UPDATE, DELETE ON %I FROM %I', name, run_role);
    END LOOP;
    EXECUTE format('REVOKE INSERT ON log_epoch FROM %I', run_role);
    EXECUTE format('REVOKE ALL ON relay_cursor FROM %I', run_role);
    FOR slot IN 0..3 LOOP
        EXECUTE format('REVOKE ALL ON outbox_%s FROM %I', slot, run_role);
        EXECUTE format('GRANT TRUNCATE ON outbox_%s TO nexus_relay', slot);
    END LOOP;
    FOREACH name IN ARRAY ARRAY['outbox', 'event', 'stream', 'inbox', 'parked'] LOOP
        EXECUTE format('CREATE POLICY relay ON %I TO nexus_relay USING (true)', name);
    END LOOP;
END $$;
GRANT SELECT ON outbox, event, stream, parked, log_epoch TO nexus_relay;
GRANT SELECT ON SEQUENCE outbox_seq, event_seq TO nexus_relay;
GRANT UPDATE ON log_epoch, parked TO nexus_relay;
GRANT SELECT, DELETE ON inbox TO nexus_relay;
GRANT DELETE ON parked TO nexus_relay;
GRANT SELECT, UPDATE ON relay_cursor TO nexus_relay;
