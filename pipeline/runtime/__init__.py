"""Processes of a run: launcher and supervisor, the event loop, and the assembly of each station."""
