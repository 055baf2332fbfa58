"""The journal: the facts of a run on disk, and what can be told from them.

An edge of the sink: it says what is durable.
"""
