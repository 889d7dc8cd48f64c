"""A ROS domain of a test's own, the files of a fleet of one robot of arithmetic, and Nav2's messages."""

import contextlib
import ctypes
import importlib.util
import os
import sys
from pathlib import Path

import pytest
from market_process import FLEET, make_hall

from fleet_market_hardware import drivers
from fleet_market_ros import discovery

ROOT = Path(__file__).parents[2]
HASTY = "types: {hasty: {like: carrier, handling_s: 0.2}}\n"


@pytest.fixture(scope="session")
def nav2_prefix():
    """Where the tests' nav2_msgs are installed; None where Nav2's own are."""
    spec = importlib.util.spec_from_file_location("nav2_building", Path(__file__).parent / "nav2_msgs_stub/building.py")
    building = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(building)
    if building.is_real_installed():
        return None
    try:
        return building.build(ROOT / ".cache/nav2_msgs")
    except building.CannotBuildError as error:
        pytest.skip(f"nav2_msgs cannot be built: {error}")


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



@pytest.fixture
def domain(tmp_path, monkeypatch):
    number = discovery.free_domain_id()
    for name, value in discovery.loopback_environment(number, tmp_path / "ros").items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def files(tmp_path, domain, monkeypatch):
    """A fleet of one robot in a hall, and the toy driver under its name."""
    monkeypatch.setitem(drivers.BUILT_IN, "toy", "toy_driver:driver")
    monkeypatch.setitem(drivers.ABOUT, "toy", "a robot of arithmetic")
    fleet = make_hall(tmp_path)
    fleet.write_text(HASTY + FLEET.replace("type: carrier}", "type: hasty, start: 2;4;0}"))
    return tmp_path
