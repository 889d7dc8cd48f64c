"""Kernels: plain functions on numpy arrays that run as they are, or compiled when a caller asks for it.

A kernel is written once. `plain` callers (a robot's node) run the Python function; a daemon or a benchmark asks for the
same function compiled by numba, which is imported only then. Both compute the same numbers: no fast-math, the same order
of operations, and chance only from the `numpy.random.Generator` that is passed in.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any, TypeVar

from fleet_market.errors import FleetMarketError

F = TypeVar("F", bound=Callable[..., Any])
_MARK = "is_kernel"
OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "_nrt": False}
"""No kernel allocates anything, so nothing need be counted: without `_nrt` they run five times as fast."""


def kernel(function: F) -> F:
    """Mark a function as one that may be compiled: arrays, numbers, named tuples and loops only."""
    setattr(function, _MARK, True)
    return function


def compiled(function: F) -> F:
    """Return the compiled twin of a kernel; the first call of it compiles (or loads it from numba's cache).

    Raises
    ------
    FleetMarketError
        If numba is not installed.
    ValueError
        If the function is no kernel.
    """
    if not getattr(function, _MARK, False):
        raise ValueError(f"only a @kernel can be compiled, was {function!r}")
    twin: F = _space(function.__module__)[function.__name__]
    return twin


@cache
def _space(module_name: str) -> dict[str, Any]:
    """Return the names of a module with all kernels among them compiled."""
    try:
        import numba  # noqa: PLC0415  (heavy: only for those who ask)
    except ImportError as error:
        raise FleetMarketError("compiled kernels need numba: pip install 'fleet-market[fast]'") from error
    names = vars(sys.modules[module_name])
    space: dict[str, Any] = dict(names)
    for name, value in names.items():
        if not isinstance(value, FunctionType) or not getattr(value, _MARK, False):
            continue
        if value.__module__ != module_name:
            space[name] = _space(value.__module__)[value.__name__]
            continue
        copy = FunctionType(value.__code__, space, value.__name__, value.__defaults__)
        twin = numba.njit(**OPTIONS)(copy)
        # numba's cache looks only at the file of the function itself; its callees live in other files too.
        cache_file = getattr(getattr(twin, "_cache", None), "_cache_file", None)
        if cache_file is not None:
            cache_file._source_stamp = _digest()  # noqa: SLF001
        space[name] = twin
    return space


@cache
def _digest() -> str:
    """Return a digest of the sources of all kernels."""
    total = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        source = path.read_bytes()
        if b"@kernel" in source or b"NamedTuple" in source:
            total.update(source)
    return total.hexdigest()
