"""Regions at the door: who lives where, asked and remembered, and requests passed on to their home.

`homes.py` answers where a tenant lives, from memory, this region's database, or the directory
(`directory.py` where it is kept here, `peers.py` where another region keeps it); `peer_api.py`
answers other regions; `crossing.py` decides at the door, `forwarder.py` passes on; `side.py` puts
all of it together for a process.
"""
