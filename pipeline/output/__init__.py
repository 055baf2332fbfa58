"""Results out: the output, dead letters, and what waits for its turn.

Edges of the sink: they say what is written, and never what is settled.
"""
