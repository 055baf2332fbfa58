"""The worker: from its lane to its executor to the sink, and pulses that say all it holds.

Pure: told what was said and what time it is, it answers with what to say.
"""
