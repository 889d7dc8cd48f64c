"""Find, fetch and start the peer."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fleet_market.errors import FleetMarketError

DEFAULT_FOLDER = Path(".cache/vda5050")
LIBRARY = "vda-5050-lib"
RELEASE = "1.4.0"
"""The release that the behaviour in the docs was seen on."""
STEP_TIMEOUT_S = 300
SCRIPTS = Path(__file__).parent


class PeerError(FleetMarketError, RuntimeError):
    """The peer cannot be had here; says what was tried and what to do."""


@dataclass(frozen=True, slots=True)
class Peer:
    """An installed peer."""

    node: str
    folder: Path

    def start(self, script: str, **settings: object) -> subprocess.Popen[str]:
        """Start ``script.js`` with its settings in the environment; its output comes as lines."""
        return subprocess.Popen(
            [self.node, str(SCRIPTS / f"{script}.js")], env=self._environment(settings), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def _environment(self, settings: dict[str, object]) -> dict[str, str]:
        told = {name.upper(): str(value) for name, value in settings.items()}
        return {**os.environ, "NODE_PATH": str(self.folder.resolve() / "node_modules"), **told}


def find(folder: Path = DEFAULT_FOLDER) -> Peer | None:
    """Return the peer in `folder`, None if it is not there."""
    node = shutil.which("node") or shutil.which("nodejs")
    there = (folder / "node_modules" / LIBRARY / "package.json").exists()
    return Peer(node, folder) if node is not None and there else None


def install(folder: Path = DEFAULT_FOLDER) -> Peer:
    """Return the peer; fetch what is missing of Node.js, npm and the library.

    Raises
    ------
    PeerError
        If that is not possible here.
    """
    if (found := find(folder)) is not None:
        return found
    if not (shutil.which("node") or shutil.which("nodejs")) or not shutil.which("npm"):
        _get_node()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as fresh:  # never half there, whoever installs beside
        options = ["--prefix", fresh, "--no-audit", "--no-fund", "--ignore-scripts"]
        _run(["npm", "install", *options, f"{LIBRARY}@{RELEASE}"])
        with contextlib.suppress(OSError):  # somebody was quicker
            folder.mkdir(parents=True, exist_ok=True)
            Path(fresh, "node_modules").rename(folder / "node_modules")
    if (found := find(folder)) is None:
        raise PeerError(f"npm brought no {LIBRARY} into {folder}")
    return found


def _get_node() -> None:
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    get = [*sudo, "apt-get", "-o", "DPkg::Lock::Timeout=60"]
    wanted = [*get, "install", "-y", "--no-install-recommends", "nodejs", "npm"]
    try:
        _run(wanted)
    except PeerError:
        _run([*get, "update"])
        _run(wanted)


def _run(arguments: list[str]) -> None:
    try:
        done = subprocess.run(
            arguments, capture_output=True, text=True, check=False, timeout=STEP_TIMEOUT_S,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerError(f"{' '.join(arguments[:3])}: {error}; install Node.js and npm and try again") from None
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise PeerError(f"{' '.join(arguments[:3])}: {last[0][:200]}; install Node.js and npm and try again")
