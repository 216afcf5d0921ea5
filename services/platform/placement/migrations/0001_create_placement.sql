-- In the directory's region: the placements. In every other one: a copy of them.

CREATE TABLE placement (
    name text PRIMARY KEY,
    home text NOT NULL,
    epoch bigint NOT NULL CHECK (epoch >= 1),
    state text NOT NULL CHECK (state IN ('reserved', 'settled', 'moving')),
    previous text NOT NULL DEFAULT '',
    regions text[] NOT NULL DEFAULT '{}',
    residency text NOT NULL,
    lease_unix double precision NOT NULL DEFAULT 0,
    turn bigint NOT NULL UNIQUE,
    changed_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE placement IS
    'shared: where each tenant lives is asked before anything is known of the tenant';
CREATE INDEX placement_moving ON placement (previous) WHERE state = 'moving';

-- How much of the directory has been copied: up to which turn of the directory's.
CREATE TABLE progress (
    directory text PRIMARY KEY,
    turn bigint NOT NULL
);
COMMENT ON TABLE progress IS 'shared: one row a directory, nothing of a tenant';

-- Writes of every service ask this within their transaction. The lock is shared among them and keeps
-- away whoever changes the placement; the query after it sees what was committed before it was got.
CREATE FUNCTION fence(of_name text)
RETURNS TABLE (home text, epoch bigint, state text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('placement:' || of_name, 0));
    RETURN QUERY SELECT p.home, p.epoch, p.state FROM placement p WHERE p.name = of_name;
END $$;

-- All services' roles may ask, and read nothing else: tables are granted to this service's alone.
GRANT USAGE ON SCHEMA placement TO PUBLIC;
GRANT EXECUTE ON FUNCTION fence TO PUBLIC;
