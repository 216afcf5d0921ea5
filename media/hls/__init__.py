"""LL-HLS: the timeline that media writes, and the shelf that edge serves from."""
