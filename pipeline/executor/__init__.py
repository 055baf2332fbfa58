"""Executors: the worker's adapters that run tasks, as commands or as calls in warm processes.

Each accepted task is reported once, released once or cancelled.
"""
