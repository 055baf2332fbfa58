"""A brokerless multi-process task pipeline: ventilator, workers and sink over ZeroMQ."""

__version__ = "0.1.0"
