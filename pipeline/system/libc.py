"""Functions of libc that Python has no name for."""

from __future__ import annotations


def call_libc(name: str, *arguments: int) -> int:
    """Call a function of libc with ints, and return its int. Raises AttributeError if this libc does not have it."""
    try:
        # the import of ctypes takes 2 ms more, for types that are not needed here
        from _ctypes import call_function, dlopen, dlsym

        function = dlsym(dlopen(None, 0), name)  # type: ignore[arg-type]
    except ImportError:
        import ctypes

        return int(getattr(ctypes.CDLL(None), name)(*arguments))
    except OSError as error:
        raise AttributeError(str(error)) from None
    return int(call_function(function, arguments))
