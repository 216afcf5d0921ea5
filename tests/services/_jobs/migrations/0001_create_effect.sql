-- What the test's jobs write: a row an effect, so that doubled ones are seen.

CREATE TABLE effect (
    tenant text NOT NULL,
    number bigint GENERATED ALWAYS AS IDENTITY,
    what text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX effect_tenant ON effect (tenant, what);
CREATE POLICY relay ON effect TO nexus_relay USING (true);
GRANT SELECT ON effect TO nexus_relay;
