-- The read models, one row a generation (services/_events/projection.py).

CREATE TABLE board (
    generation integer NOT NULL,
    tenant text NOT NULL,
    id text NOT NULL,
    name text NOT NULL,
    capacity integer NOT NULL,
    taken integer NOT NULL,
    ends_at text NOT NULL,
    closed boolean NOT NULL,
    version integer NOT NULL,
    PRIMARY KEY (generation, id)
);
CREATE INDEX board_by_name ON board (generation, tenant, name, id);
CREATE INDEX board_by_end ON board (generation, tenant, ends_at) WHERE NOT closed;

CREATE TABLE guest (
    generation integer NOT NULL,
    tenant text NOT NULL,
    id text NOT NULL,
    guest_list text NOT NULL,
    name text NOT NULL,
    seats integer NOT NULL,
    status text NOT NULL,
    PRIMARY KEY (generation, id)
);
CREATE INDEX guest_by_name ON guest (generation, tenant, guest_list, name, id);

-- What is about people and so not in the log: sealed, and found by a blind index.
CREATE TABLE contact (
    guest text PRIMARY KEY,
    tenant text NOT NULL,
    guest_list text NOT NULL,
    email bytea NOT NULL,
    email_index bytea NOT NULL,
    UNIQUE (tenant, guest_list, email_index)
);

-- Invitations that a job has written, ready to be handed out.
CREATE TABLE invitation (
    guest text PRIMARY KEY,
    tenant text NOT NULL,
    letter bytea NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now()
);

-- Seats that have arrived, counted by the consumer of admissions.
CREATE TABLE arrival (
    guest_list text PRIMARY KEY,
    tenant text NOT NULL,
    seats integer NOT NULL
);
