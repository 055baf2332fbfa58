"""The sink: a state machine that decides which results are written, retried and acknowledged, and when the run ends.

It is pure: it receives a message and the time and returns messages to send.
"""
