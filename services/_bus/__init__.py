"""Carries events between services: `port.py` is what a bus promises, `postgres.py` the embedded
one, `kafka.py` the one with brokers; `relay.py` fills it from outboxes, `inbox.py` is the way in,
`loops.py` what a worker runs of this.

Services know nothing of it: they publish into an outbox and declare what they consume.
"""
