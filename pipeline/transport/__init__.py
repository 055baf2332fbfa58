"""The wire protocol over ZeroMQ: codec, sockets, channels and endpoints."""
