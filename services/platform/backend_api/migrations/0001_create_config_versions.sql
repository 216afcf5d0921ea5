CREATE SEQUENCE activation;

CREATE TABLE config_version (
    tenant text NOT NULL,
    id text PRIMARY KEY,
    number bigint NOT NULL,
    state text NOT NULL CHECK (state IN ('draft', 'active', 'retired')),
    body text NOT NULL,
    checksum text NOT NULL,
    note text NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    activated_at timestamptz,
    activation bigint,
    version bigint NOT NULL DEFAULT 1,
    UNIQUE (tenant, number)
);
CREATE UNIQUE INDEX config_version_active ON config_version (tenant) WHERE state = 'active';
CREATE INDEX config_version_activation ON config_version (tenant, activation DESC)
    WHERE activation IS NOT NULL;
