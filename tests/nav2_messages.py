"""Nav2's messages for tests: the real ones where they are, else two actions of them, in a folder of their own."""

import contextlib
import ctypes
import importlib.util
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def nav2_prefix():
    """Where the tests' nav2_msgs are installed; None where Nav2's own are."""
    spec = importlib.util.spec_from_file_location("nav2_building", ROOT / "tests/ros/nav2_msgs_stub/building.py")
    building = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(building)
    if building.is_real_installed():
        return None
    try:
        return building.build(ROOT / ".cache/nav2_msgs")
    except building.CannotBuildError as error:
        pytest.fail(f"nav2_msgs cannot be built: {error}")


@pytest.fixture(scope="session")
def nav2_msgs(nav2_prefix):
    """Nav2's messages in this process."""
    if nav2_prefix is None:
        return
    for _ in range(3):  # until those that another one needs are there
        for library in sorted((nav2_prefix / "lib").glob("libnav2_msgs__*.so")):
            with contextlib.suppress(OSError):
                ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    sys.path.append(str(next(nav2_prefix.glob("lib/python3*/site-packages"))))


@pytest.fixture(scope="session")
def nav2_environment(nav2_prefix):
    """Variables for processes that need Nav2's messages."""
    if nav2_prefix is None:
        return {}
    ours = {"PYTHONPATH": next(nav2_prefix.glob("lib/python3*/site-packages")), "LD_LIBRARY_PATH": nav2_prefix / "lib"}
    return {name: os.pathsep.join(filter(None, [str(path), os.environ.get(name)])) for name, path in ours.items()}
