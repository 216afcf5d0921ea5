-- What every service has: answers that were given once, and the audit log.

CREATE TABLE idempotency (
    tenant text NOT NULL,
    principal text NOT NULL,
    operation text NOT NULL,
    key text NOT NULL,
    request_hash bytea NOT NULL,
    status smallint NOT NULL,
    headers jsonb NOT NULL,
    body bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, principal, operation, key)
);
CREATE INDEX idempotency_expires ON idempotency (expires_at);

CREATE TABLE audit (
    tenant text NOT NULL,
    seq bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    actor text NOT NULL,
    action text NOT NULL,
    target text NOT NULL,
    entry text NOT NULL,
    hash bytea NOT NULL,
    PRIMARY KEY (tenant, seq)
);
CREATE INDEX audit_target ON audit (tenant, target, seq);

CREATE TABLE audit_head (
    tenant text PRIMARY KEY,
    seq bigint NOT NULL,
    hash bytea NOT NULL
);

-- Runs as the schema's owner, who alone may write the two tables; the caller's tenant is checked here.
CREATE FUNCTION audit_append(
    of_tenant text, of_actor text, of_action text, of_target text, of_entry text
) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    head audit_head;
BEGIN
    IF of_tenant = '' OR of_tenant IS DISTINCT FROM current_setting('nexus.tenant', true) THEN
        RAISE insufficient_privilege USING MESSAGE = 'the audit log of another tenant';
    END IF;
    INSERT INTO audit_head AS known (tenant, seq, hash)
        VALUES (of_tenant, 0, decode(repeat('00', 32), 'hex'))
        ON CONFLICT (tenant) DO UPDATE SET seq = known.seq
        RETURNING * INTO head;
    head.seq := head.seq + 1;
    head.hash := sha256(head.hash || int8send(head.seq) || convert_to(of_entry, 'UTF8'));
    INSERT INTO audit (tenant, seq, actor, action, target, entry, hash)
        VALUES (of_tenant, head.seq, of_actor, of_action, of_target, of_entry, head.hash);
    UPDATE audit_head SET seq = head.seq, hash = head.hash WHERE tenant = of_tenant;
    RETURN head.seq;
END $$;

DO $$
BEGIN
    EXECUTE format('REVOKE INSERT, UPDATE, DELETE ON audit, audit_head FROM %I',
        current_setting('nexus.run_role'));
    EXECUTE format('REVOKE ALL ON FUNCTION audit_append FROM PUBLIC');
    EXECUTE format('GRANT EXECUTE ON FUNCTION audit_append TO %I',
        current_setting('nexus.run_role'));
END $$;
