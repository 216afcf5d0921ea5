-- A row's xid is its transaction's, or the newest that had ended when it was written. A transaction
-- that wrote anything before it waited for the lock of a key is older than the one that it waited
-- for; its events would stand before those that they follow. A row never stands before its own
-- transaction, so who reads what is below every running one still misses nothing.
ALTER TABLE event ALTER COLUMN xid SET DEFAULT greatest(
    pg_current_xact_id(),
    (pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1)::text::xid8
);
ALTER TABLE outbox ALTER COLUMN xid SET DEFAULT greatest(
    pg_current_xact_id(),
    (pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1)::text::xid8
);
