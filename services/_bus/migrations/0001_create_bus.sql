-- The embedded bus: one log a region, in 64 partitions, that the relays of all services append to
-- and all consumers read. Nobody but nexus_relay sees it.

-- The position of each partition's last message. Whoever appends locks it, so that positions are
-- given in the order of commits, without a gap.
CREATE TABLE head (
    partition smallint PRIMARY KEY,
    position bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE head IS 'shared: places in the log of every tenant';
INSERT INTO head (partition) SELECT generate_series(0, 63);

-- A ring of four days, emptied whole once its oldest day was read by all.
CREATE TABLE message (
    slot smallint NOT NULL DEFAULT (extract(epoch FROM now())::bigint / 86400 % 4),
    partition smallint NOT NULL,
    position bigint NOT NULL,
    tenant text NOT NULL,
    topic text NOT NULL,
    event json NOT NULL
) PARTITION BY LIST (slot);
CREATE TABLE message_0 PARTITION OF message FOR VALUES IN (0);
CREATE TABLE message_1 PARTITION OF message FOR VALUES IN (1);
CREATE TABLE message_2 PARTITION OF message FOR VALUES IN (2);
CREATE TABLE message_3 PARTITION OF message FOR VALUES IN (3);
CREATE INDEX message_in_order ON message (partition, position);

CREATE TABLE subscription (
    consumer text NOT NULL,
    partition smallint NOT NULL,
    position bigint NOT NULL DEFAULT 0,
    owner text NOT NULL DEFAULT '',
    fence bigint NOT NULL DEFAULT 0,
    lease_until timestamptz NOT NULL DEFAULT '-infinity',
    seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, partition)
);
COMMENT ON TABLE subscription IS 'shared: places in the log of every tenant';

-- Appends in the given order, and wakes who listens to these topics. Not flushed by itself: outbox
-- and bus share one write-ahead log, in which the moved cursor and any effect come later.
CREATE FUNCTION send_messages(
    partitions smallint[], topics text[], tenants text[], events text[]
) RETURNS void LANGUAGE sql VOLATILE BEGIN ATOMIC
    SELECT set_config('synchronous_commit', 'off', true);
    WITH locked AS (
        SELECT h.partition, h.position FROM head h WHERE h.partition = ANY (partitions)
        ORDER BY h.partition FOR UPDATE
    ), given AS (
        SELECT g.*, row_number() OVER (PARTITION BY g.partition ORDER BY g.place) AS number
        FROM unnest(partitions, topics, tenants, events) WITH ORDINALITY
            AS g (partition, topic, tenant, event, place)
    ), written AS (
        INSERT INTO message (partition, position, tenant, topic, event)
        SELECT partition, l.position + g.number, g.tenant, g.topic, g.event::json
        FROM given g JOIN locked l USING (partition)
    ), moved AS (
        UPDATE head h SET position = l.position + g.number
        FROM locked l JOIN (
            SELECT partition, max(number) AS number FROM given GROUP BY partition
        ) g USING (partition)
        WHERE h.partition = l.partition
    )
    SELECT pg_notify('nexus_bus', topic) FROM (SELECT DISTINCT unnest(topics) AS topic) t;
END;

-- Makes a consumer's places, at the oldest message, or says that it is still there.
CREATE FUNCTION subscribe(who text) RETURNS void LANGUAGE sql VOLATILE BEGIN ATOMIC
    INSERT INTO subscription (consumer, partition) SELECT who, generate_series(0, 63)
    ON CONFLICT (consumer, partition) DO UPDATE SET seen_at = now();
END;

-- The plan is kept, and may be made while the log is empty, when reading all of it looks cheap: so
-- it is told to go by the index.
-- Leases the free partitions in which there is something after the consumer's place, and returns
-- up to rows_max messages of its topics from each; `head` is where the partition ended then.
CREATE FUNCTION claim_messages(
    who text, me text, lease_seconds double precision, wanted text[], rows_max integer
) RETURNS TABLE (partition smallint, fence bigint, head bigint, place bigint, event json)
LANGUAGE sql VOLATILE SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
BEGIN ATOMIC
    SELECT set_config('synchronous_commit', 'off', true);
    WITH free AS (
        SELECT s.partition, h.position FROM subscription s JOIN head h USING (partition)
        WHERE s.consumer = who AND s.position < h.position
            AND (s.lease_until < clock_timestamp() OR s.owner = me)
        FOR UPDATE OF s SKIP LOCKED
    ), mine AS (
        UPDATE subscription s SET owner = me, fence = s.fence + 1,
            lease_until = clock_timestamp() + make_interval(secs => lease_seconds)
        FROM free f WHERE s.consumer = who AND s.partition = f.partition
        RETURNING s.partition, s.fence, s.position, f.position AS head
    )
    SELECT m.partition, m.fence, m.head, x.position, x.event
    FROM mine m LEFT JOIN LATERAL (
        SELECT g.position, g.event FROM message g
        WHERE g.partition = m.partition AND g.position > m.position AND g.position <= m.head
            AND g.topic = ANY (wanted)
        ORDER BY g.position LIMIT rows_max
    ) x ON true
    ORDER BY m.partition, x.position;
END;

-- Moves the places of leases that are still held, and gives the leases back; how many were held.
CREATE FUNCTION settle_messages(who text, partitions smallint[], fences bigint[], places bigint[])
RETURNS bigint LANGUAGE sql VOLATILE BEGIN ATOMIC
    SELECT set_config('synchronous_commit', 'off', true);
    WITH settled AS (
        UPDATE subscription s SET position = g.place, lease_until = '-infinity'
        FROM unnest(partitions, fences, places) AS g (partition, fence, place)
        WHERE s.consumer = who AND s.partition = g.partition AND s.fence = g.fence
        RETURNING 1
    )
    SELECT count(*) FROM settled;
END;

-- Empties the day that the ring comes to next, if everybody has read it; its slot, or null. Whoever
-- was not seen for a week is waited for no more.
CREATE FUNCTION empty_message_slot() RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    next_slot integer := (extract(epoch FROM now())::bigint / 86400 + 1) % 4;
BEGIN
    IF NOT EXISTS (SELECT FROM message m WHERE m.slot = next_slot) OR EXISTS (
        SELECT FROM message m JOIN subscription s USING (partition)
        WHERE m.slot = next_slot AND s.position < m.position AND s.seen_at > now() - interval '7 days'
    ) THEN
        RETURN NULL;
    END IF;
    PERFORM set_config('lock_timeout', '200ms', true);
    EXECUTE format('TRUNCATE message_%s', next_slot);
    RETURN next_slot;
END $$;

DO $$
DECLARE
    run_role text := current_setting('nexus.run_role');
BEGIN
    EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA %I FROM %I', current_schema(), run_role);
    FOR slot IN 0..3 LOOP
        EXECUTE format('GRANT TRUNCATE ON message_%s TO nexus_relay', slot);
    END LOOP;
END $$;
CREATE POLICY relay ON message TO nexus_relay USING (true) WITH CHECK (true);
GRANT SELECT, UPDATE ON head TO nexus_relay;
GRANT SELECT, INSERT ON message TO nexus_relay;
GRANT SELECT, INSERT, UPDATE ON subscription TO nexus_relay;
