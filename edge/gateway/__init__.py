"""The gateway: what happens to a request before and after whoever answers it.

`route_table.py` finds the route, `identity.py` who asks, `limits.py` whether they may now,
`answer_cache.py` whether it is known already, `dispatch.py` asks a service or (`proxy.py`) an HTTP
server. `gateway.py` puts them in order, `http.py` hangs it into the HTTP side. Engines take `now`
and do no I/O. What it is to do is data of `services/platform/backend_api`.
"""
