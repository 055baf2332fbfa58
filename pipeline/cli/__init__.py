"""The command line: parsing, one module per command, and everything that the user reads.

`app.py` parses words into Settings, one module per command runs it, `terminal.py` writes to stderr, and
`exit_codes.py` turns exceptions into exit codes. Only this package imports typer, and nothing here opens a socket.
"""
