-- Fences of consumers' leases are random: one that is counted would be given again after a crash, with
-- places that mean others. Apart from that as it was.
CREATE OR REPLACE FUNCTION claim_messages(
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
        UPDATE subscription s SET owner = me, fence = (random() * 9e18)::bigint,
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
