"""Guest lists with a capacity: who may come to a show, and who is in.

For: promoters and the door. Owns: guest lists and their guests (event-sourced).
Publishes: what happens to lists and guests. Consumes: its own admissions, to count arrivals.
It is also the worked example of `docs/add-a-service.md`: small, and with every feature of the kit.
"""
