"""What a process of nodes does to stay small."""

from __future__ import annotations

import contextlib
import ctypes
import sys

M_ARENA_MAX = -8
"""Of mallopt(3), glibc's ``malloc.h``."""


def share_one_heap() -> None:
    """Let all threads allocate from one heap; to be called before there are threads.

    By default glibc gives up to eight heaps per core to threads, so that they need not wait for each other. A node has 17
    threads, nearly all of the middleware, which allocate a little each: 2.5 MB per process are saved [measured with
    ros-rclpy 9.1.2]. Where the C library is another one nothing happens.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def leave_out_generators() -> None:
    """Keep what writes message classes out of this process; to be called before a node is made.

    `rosidl_generator_py`, which every message asks for its type support, imports the generator of message classes too,
    with two parsers and a template engine, and goes on without it where that fails: 2 MB per process are saved [measured
    with ros-rosidl-generator-py 0.24.2].
    """
    sys.modules["rosidl_generator_py.generate_py_impl"] = None  # type: ignore[assignment]  # an import then fails


def give_back() -> None:
    """Return to the system what was freed, after work that took much for a moment; glibc keeps it otherwise."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
