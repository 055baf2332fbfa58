"""The executors: a process for each command, a warm child for each slot of a callable.

Edges of the worker: they take chunks and tell what has ended, and never what it means.
"""
