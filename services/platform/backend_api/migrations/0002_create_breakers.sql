-- Upstreams that workers leave alone just now: a row lasts as long as its worker says so.
CREATE TABLE breaker (
    tenant text NOT NULL,
    upstream text NOT NULL,
    worker text NOT NULL,
    state text NOT NULL CHECK (state IN ('open', 'half_open')),
    since timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, upstream, worker)
);
