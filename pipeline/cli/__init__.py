"""The door: what a person types, and what a person is told.

`app.py` turns words into Settings, one file a command runs them, `screen.py` owns stderr, `ends.py` owns the
exit codes. Nothing below knows typer, and nothing here knows a socket.
"""
