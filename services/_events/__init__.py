"""Events of business services: written with the change they tell of, handled once by who consumes.

`event.py` is what an event is, `store.py` event-sourced state, `outbox.py` the way out,
`projection.py` read models, `asyncapi.py` their document. `services/_bus` carries them and has the
way in.
"""
