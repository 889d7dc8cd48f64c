"""Builds the tests' nav2_msgs into a folder of its own, once for each content; never into an environment.

``python building.py FOLDER`` (`make test`).
"""

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent
FILES = ("CMakeLists.txt", "package.xml", "action/ComputePathToPose.action", "action/NavigateToPose.action")
NEEDED = "share/rosidl_default_generators"


class CannotBuildError(Exception):
    """Something that the build needs is not installed."""


def is_real_installed():
    """Whether Nav2's own messages are there: then those are used."""
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    return any(Path(p, "share/ament_index/resource_index/packages/nav2_msgs").exists() for p in prefixes if p)


def key():
    content = hashlib.sha256(f"{sys.version_info[:2]}{sysconfig.get_platform()}{metadata.version('ros-rclpy')}".encode())
    for name in FILES:
        content.update((HERE / name).read_bytes())
    return content.hexdigest()[:16]


def build(cache, tools=None):
    """Return the prefix into which the messages are built; made only if it is not there yet."""
    if is_real_installed():
        raise CannotBuildError("nav2_msgs is installed here: the tests' own must not stand beside it")
    done = Path(cache).absolute() / key()
    if done.exists():
        return done
    tools = Path(tools or sys.prefix)
    missing = [name for name in ("cmake", "g++") if shutil.which(name) is None]
    if missing or not (tools / NEEDED).exists():
        raise CannotBuildError(f"no {', '.join([*missing, NEEDED])}: make ros")
    fresh = Path(f"{done}.{os.getpid()}")
    env = {**os.environ, "AMENT_PREFIX_PATH": str(tools), "PATH": f"{tools / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    options = {
        "CMAKE_BUILD_TYPE": "Release",
        "BUILD_TESTING": "OFF",
        "CMAKE_INSTALL_PREFIX": fresh / "prefix",
        "CMAKE_INSTALL_RPATH": done / "lib",
    }
    commands = (
        ["cmake", "-S", HERE, "-B", fresh / "build", *(f"-D{name}={value}" for name, value in options.items())],
        ["cmake", "--build", fresh / "build", "-j2"],
        ["cmake", "--install", fresh / "build"],
    )
    try:
        for command in commands:
            done_so_far = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
            if done_so_far.returncode:
                raise CannotBuildError(f"{done_so_far.stdout[-2000:]}\n{done_so_far.stderr[-2000:]}")
        if not done.exists():
            (fresh / "prefix").rename(done)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return done


def main():
    """Build; the wheels that generate code are installed where they are missing."""
    cache, root = Path(sys.argv[1]), HERE.parents[2]
    if is_real_installed():
        print("the tests use the nav2_msgs that is installed here")
        return
    if not (Path(sys.prefix) / NEEDED).exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--editable", f"{root}[ros-build]"]
        subprocess.run(pip, check=True)
    try:
        print(f"nav2_msgs of the tests: {build(cache)}")
    except CannotBuildError as error:
        sys.exit(f"nav2_msgs of the tests cannot be built: {error}")


if __name__ == "__main__":
    main()
