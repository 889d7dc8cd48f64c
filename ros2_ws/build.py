"""Builds the ROS 2 workspace: against the ROS that is sourced, else from the wheels of ROS into the Python environment.

Run it with the environment's own interpreter: ``.venv/bin/python ros2_ws/build.py`` (`make ros`).

* Where ``/opt/ros/<distribution>`` is sourced, this is ``colcon build`` of the whole workspace.
* Elsewhere colcon builds `fleet_market_msgs` with the generators that come as wheels, and the result becomes a wheel that
  is installed into the environment: no variable has to be set to use it. Wheels are kept by what they were made from, so
  that a second run compiles nothing.

``--optional``: without a C++ compiler say so and go on; the nodes run without the package and publish less.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORKSPACE = ROOT / "ros2_ws"
PACKAGE = "fleet_market_msgs"
VERSION = "0.1.0"
DISTRIBUTIONS = ("jazzy", "kilted")
"""Of ROS 2, whose message packages the workspace is made for."""
RCLPY_WHEEL = "9.1.2"
"""The wheels of ROS that `pyproject.toml` pins: Kilted."""
WHEELS_OF_ROS = ("ros-kilted", "ros-build")
"""Extras of `pyproject.toml`: what generates code from the interfaces, and what that runs with."""

LEFT_OUT = re.compile(r"/__pycache__/|\.egg-info/")
"""What an installed package holds that is no part of a wheel."""


class BuildError(Exception):
    """The workspace cannot be built; the text says how to mend that."""


class NoCompilerError(BuildError):
    """There is no C++ compiler."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Build; returns the exit code."""
    parser = argparse.ArgumentParser(description="Build the ROS 2 workspace.")
    parser.add_argument(
        "--optional", action="store_true", help="go on without the interfaces where nothing can compile them"
    )
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "ros", help="where wheels are kept")
    options = parser.parse_args(arguments)
    try:
        if sourced(os.environ) is not None:
            build_workspace()
        else:
            install_wheel(options.cache)
    except NoCompilerError as error:
        print(f"{error}: robots run without {PACKAGE}, and publish no market topics", file=sys.stderr)
        return 0 if options.optional else 2
    except BuildError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def sourced(environment: Mapping[str, str]) -> str | None:
    """Return the ROS distribution whose set-up file was sourced; None if there is none.

    Raises
    ------
    BuildError
        If it is one for which the workspace is not made, or if this environment has wheels of ROS beside it.
    """
    distribution = environment.get("ROS_DISTRO")
    if not distribution or "/opt/ros" not in environment.get("AMENT_PREFIX_PATH", ""):
        return None
    if distribution not in DISTRIBUTIONS:
        raise BuildError(
            f"ROS_DISTRO was {distribution!r}: source one of {', '.join(f'/opt/ros/{d}' for d in DISTRIBUTIONS)}"
        )
    if (version := _installed("ros-rclpy")) is not None:
        raise BuildError(
            f"ROS_DISTRO is {distribution!r}, and this environment has the wheel ros-rclpy {version}: their libraries would"
            " mix; use an environment made without the extra ros-kilted, or a shell in which no ROS is sourced"
        )
    return distribution


def build_workspace() -> None:
    """Build every package of the workspace with the ROS that is sourced."""
    _run([_tool("colcon", "apt install python3-colcon-common-extensions"), "build"], cwd=WORKSPACE)


def install_wheel(cache: Path) -> None:
    """Install the wheel of the interfaces, which is built if none is kept that was made from the same."""
    version = _installed("ros-rclpy")
    if version != RCLPY_WHEEL:
        raise BuildError(
            f"ros-rclpy was {version or 'not installed'}: this environment needs {RCLPY_WHEEL},"
            " pip install -e '.[ros-kilted]', or a shell in which /opt/ros/jazzy or /opt/ros/kilted is sourced"
        )
    name = f"{VERSION}+{content_hash(WORKSPACE / 'src' / PACKAGE)}"
    if _installed(PACKAGE) == name:
        print(f"{PACKAGE} {name} is installed")
        return
    wheel = cache / f"{PACKAGE}-{name}-{_tag()}.whl"
    if not wheel.exists():
        _build_wheel(wheel, name)
    _pip("--force-reinstall", "--no-deps", str(wheel))
    print(f"{PACKAGE} {name} has been installed")


def content_hash(package: Path, project: Path = ROOT / "pyproject.toml") -> str:
    """Return a hash of a package's sources and of the versions that generate code from them, 12 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in sorted(p for p in package.rglob("*") if p.is_file()):
        digest.update(f"{path.relative_to(package).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    extras = tomllib.loads(project.read_text())["project"]["optional-dependencies"]
    digest.update("\0".join(requirement for name in WHEELS_OF_ROS for requirement in extras[name]).encode())
    return digest.hexdigest()[:12]


def compiler(environment: Mapping[str, str]) -> str:
    """Return the C++ compiler that CMake will take.

    Raises
    ------
    NoCompilerError
    """
    for name in filter(None, (environment.get("CXX"), "c++", "g++", "clang++")):
        if found := shutil.which(name, path=environment.get("PATH")):
            return found
    raise NoCompilerError("no C++ compiler was found (apt install g++)")


def _build_wheel(wheel: Path, version: str) -> None:
    compiler(os.environ)
    extras = [] if shutil.which("cmake") else ["cmake", "ninja"]
    _pip("--editable", f"{ROOT}[ros-build]", *extras)
    wheel.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=wheel.parent) as folder:
        installed = Path(folder) / "install"
        scripts = sysconfig.get_path("scripts")
        environment = os.environ | {
            "AMENT_PREFIX_PATH": sys.prefix,
            "CMAKE_BUILD_TYPE": "Release",
            "MAKEFLAGS": f"-j{len(os.sched_getaffinity(0))}",
            "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}",
            "VIRTUAL_ENV": sys.prefix,
        }
        command = [str(Path(scripts) / "colcon"), "--log-base", f"{folder}/log", "build", "--merge-install"]
        command += ["--base-paths", str(WORKSPACE / "src" / PACKAGE), "--packages-select", PACKAGE]
        command += ["--build-base", f"{folder}/build", "--install-base", str(installed)]
        command += ["--cmake-args", "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_TESTING=OFF"]
        _run(command, cwd=WORKSPACE, env=environment)
        _pack(installed, Path(folder) / wheel.name, version)
        (Path(folder) / wheel.name).replace(wheel)


def _pack(installed: Path, wheel: Path, version: str) -> None:
    """Make a wheel of what was installed: modules at its root, the rest where the environment has the like."""
    from wheel.wheelfile import WheelFile  # noqa: PLC0415 - it is there once the tools have been installed

    modules = installed / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    stem = f"{PACKAGE}-{version}"
    with WheelFile(wheel, "w") as archive:
        for path in _files(modules):
            archive.write(path, path.relative_to(modules).as_posix())
        for folder in ("lib", "share"):
            for path in _files(installed / folder):
                if not path.is_relative_to(modules):
                    archive.write(path, f"{stem}.data/data/{path.relative_to(installed).as_posix()}")
        archive.writestr(f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: {version}\n")
        about = f"Wheel-Version: 1.0\nGenerator: {Path(__file__).name}\nRoot-Is-Purelib: false\nTag: {_tag()}\n"
        archive.writestr(f"{stem}.dist-info/WHEEL", about)


def _files(folder: Path) -> Iterable[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not LEFT_OUT.search(path.as_posix()))


def _tag() -> str:
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    return f"{python}-{python}-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _tool(name: str, mend: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise BuildError(f"{name} was not found: {mend}")
    return found


def _pip(*arguments: str) -> None:
    _run([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments], cwd=ROOT)


def _run(command: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None) -> None:
    try:
        subprocess.run(command, cwd=cwd, env=env, check=True)
    except subprocess.CalledProcessError as error:
        raise BuildError(f"`{' '.join(map(str, command))}` ended with exit code {error.returncode}: see above") from None


if __name__ == "__main__":
    sys.exit(main())
