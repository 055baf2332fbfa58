"""The worker: holds tasks from its lane, has them run by its executor, sends results to the sink.

Pure state machines without I/O: each handler takes a message and the time, and returns messages.
"""
