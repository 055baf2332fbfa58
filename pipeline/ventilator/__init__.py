"""The ventilator: reads tasks, sends each worker what it requests, and sends lost tasks again.

Pure state machines without I/O: each handler takes a message and the time, and returns messages.
"""
