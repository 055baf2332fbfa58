"""BLAKE2b, without the 5 ms that `hashlib` takes to load OpenSSL."""

from __future__ import annotations

try:
    from _blake2 import blake2b  # the same as hashlib.blake2b
except ImportError:
    from hashlib import blake2b

__all__ = ["blake2b"]
