"""Lists that live: the page of any list operation, and then every change of it, as it happens.

`lists.py` watches and reads, `stream.py` is what one client gets, `held.py` knows what it has. No
service has code for it, and none of HTTP is here: edge carries the bytes.
"""
