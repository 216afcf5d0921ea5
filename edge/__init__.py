"""The front: adapters for WHIP, WHEP, HLS and the control API; composition root and CLI."""
