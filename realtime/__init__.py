"""Realtime engines without HTTP: rooms, presence, cues, telemetry. Empty until their issue."""
