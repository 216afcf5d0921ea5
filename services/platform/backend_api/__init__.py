"""The gateway's configuration as data: routes, upstreams, limits, plans, consumers.

For: operators. Owns: the versions of the configuration, of which one is active; the workers'
`edge/gateway` executes it.
Publishes: that one was activated or rolled back. Consumes: nothing.
"""
