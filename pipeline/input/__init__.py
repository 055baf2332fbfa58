"""Tasks in: files, arguments, stdin, and the spool that keeps what stdin said.

Edges of the ventilator: they read when asked, and never wait.
"""
