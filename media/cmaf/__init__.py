"""CMAF: access units to init segments, chunks, parts and segments. Bytes in, bytes out."""
