"""The gateway's configuration as data: routes, upstreams, limits, plans, consumers.

For: operators. Owns: the versions of the configuration, of which one is active; the workers'
`edge/gateway` executes it, and tells which breakers are open.
Publishes: that one was activated or rolled back, breakers that opened or closed, limits that were
exceeded. Consumes: nothing.
"""
