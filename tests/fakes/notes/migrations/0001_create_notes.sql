CREATE TABLE note (
    id text PRIMARY KEY,
    tenant text NOT NULL,
    title text NOT NULL CONSTRAINT note_title CHECK (title <> 'forbidden'),
    secret bytea,
    version bigint NOT NULL DEFAULT 1,
    UNIQUE (tenant, title)
);
