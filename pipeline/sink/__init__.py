"""The sink: each task's final record once, what is tried again, Acks, and KILL.

Pure: told what was said and what time it is, it answers with what to say.
"""
