"""How one call runs, whoever carried it here.

    permission ─▶ decode (unknown fields refused) ─▶ idempotency key ─▶ session pinned to the tenant
      ─▶ handler ─▶ audit row, events, jobs, stored answer: one transaction ─▶ encode, ETag

`Runtime.call` takes and gives bytes, for HTTP; `Runtime.invoke` takes and gives values, for GraphQL,
jobs and other services' `api.py`. Both keep every rule.
"""
