"""Memory of a training on the CPU: what one step frees is kept for the next."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
LARGEST_MMAP_THRESHOLD = 32 * 2**20  # that glibc takes
LARGEST_INT = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let this process hold on to freed memory; says whether its allocator, glibc's, can be told so.

    A step frees what it needs again in the next one. By default much of that goes back to the system in between, and
    the system hands out zeroed pages anew: up to half of a small DTI-Sprites step. Up to 2 GiB stay.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library; TypeError is Windows'
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD) and mallopt(M_TRIM_THRESHOLD, LARGEST_INT))
