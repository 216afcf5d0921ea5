"""The rules of the gateway's configuration: its paths, and everything that can be wrong with it."""
