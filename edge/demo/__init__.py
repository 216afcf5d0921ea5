"""The demo publisher: a moving test picture and a tone, sent over WHIP as any encoder would.

Made with PyAV and aiortc, so that an implementation which is not ours exercises the server every
day. It knows the server by its WHIP address alone; nothing here may import the media process.
"""
