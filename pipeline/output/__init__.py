"""Results out: the output, dead letters, what waits for its turn, and where all of it lies.

Edges of the sink: they say what is written, and never what is settled.
"""
