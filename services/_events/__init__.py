"""Events of business services: written with the change they tell of, carried to whoever consumes.

`event.py` is what an event is, `store.py` event-sourced state, `outbox.py` and `relay.py` the way
out, `bus.py` the port with its two back ends, `inbox.py` the way in, `projection.py` read models.
"""
