"""Find, fetch, configure and start Mosquitto, the MQTT broker that carries the market's messages."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleet_market.errors import BrokerError

SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin")
DEFAULT_FOLDER = Path(".cache/mosquitto")
"""Where it is unpacked, in the working directory."""
STEP_TIMEOUT_S = 300
APT_OPTIONS = ("-o", "DPkg::Lock::Timeout=60", "-o", "APT::Sandbox::User=")


@dataclass(frozen=True, slots=True)
class Mosquitto:
    """A Mosquitto that can be run."""

    path: Path
    libraries: tuple[Path, ...] = ()
    """Folders of libraries that came with it."""

    def environment(self) -> dict[str, str]:
        """Return the environment to run it in."""
        if not self.libraries:
            return dict(os.environ)
        return {**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, self.libraries))}

    def version(self) -> str:
        """Return the version that the program prints, e.g. ``2.0.11``.

        Raises
        ------
        BrokerError
            If the program does not run here.
        """
        try:
            shown = subprocess.run(
                [self.path, "-h"], capture_output=True, text=True, check=False, env=self.environment(), timeout=10
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BrokerError(f"{self.path} does not run: {error}") from None
        match = re.search(r"mosquitto version (\S+)", shown.stdout)
        if match is None:
            raise BrokerError(f"{self.path} does not run: {(shown.stderr or shown.stdout).strip()[:200]}")
        return match[1]


def find(folder: Path) -> Mosquitto | None:
    """Return the Mosquitto on PATH or in the system's folders, else the one unpacked in `folder`, else None."""
    path = shutil.which("mosquitto") or shutil.which("mosquitto", path=":".join(SYSTEM_FOLDERS))
    if path is not None:
        return Mosquitto(Path(path))
    unpacked = folder / "usr/sbin/mosquitto"
    if not unpacked.exists():
        return None
    libraries = sorted({library.parent.resolve() for library in folder.glob("**/*.so.*")})
    return Mosquitto(unpacked.resolve(), tuple(libraries))


def install(folder: Path, *, say: Callable[[str], None]) -> Mosquitto:
    """Return a Mosquitto that runs: the one that is there, else from apt, else unpacked into `folder`.

    Without the right to install, the Debian package and those of its libraries that are missing are downloaded with apt
    and unpacked in `folder`; the system is not touched.

    Raises
    ------
    BrokerError
        If none of the ways works; says what was tried and what to do.
    """
    if (found := find(folder)) is not None:
        say(f"Mosquitto {found.version()}: {found.path}")
        return found
    failures = []
    for way, attempt in (("apt-get install", _with_apt), ("apt-get download", _without_privilege)):
        try:
            attempt(folder)
            found = find(folder)
            if found is not None:
                say(f"Mosquitto {found.version()}: {found.path}, from {way}")
                return found
            failures.append(f"{way}: no mosquitto afterwards")
        except (BrokerError, OSError, subprocess.SubprocessError) as error:
            failures.append(f"{way}: {error}")
    raise BrokerError(f"Mosquitto cannot be had ({'; '.join(failures)}): install the package mosquitto and try again")


@dataclass(frozen=True, slots=True)
class BrokerTls:
    """What a broker needs to listen to other machines: mutual TLS, and who may do what."""

    ca: Path
    certificate: Path
    key: Path
    revoked: Path
    """Certificate revocation list."""
    access: Path
    pid: Path
    """Where it writes its process id."""
    bind: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all."""


def write_config(folder: Path, port: int, *, persistence: bool = True, tls: BrokerTls | None = None) -> Path:
    """Write the configuration of a broker into `folder` and return its path.

    Without `tls` it listens on the loopback interface only; that is why it asks for no password. With it, a client is who
    its certificate says: common name = user name = client id, so that nobody takes another's session over. The other
    settings are those whose defaults were measured to delay or to lose messages: Nagle's algorithm, short queues, rare
    saves.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"listener {port} 127.0.0.1", "allow_anonymous true"] if tls is None else _tls_lines(port, tls)
    lines += [
        "set_tcp_nodelay true",
        "max_queued_messages 100000",
        "memory_limit 268435456",
        "max_packet_size 262144",
        "max_inflight_messages 1000",
        "log_dest stdout",
        "log_type error",
        "log_type warning",
        f"persistence {'true' if persistence else 'false'}",
    ]
    if persistence:
        lines += [f"persistence_location {folder.resolve()}/", "autosave_interval 5"]
    if os.geteuid() == 0:
        lines.append("user root")
    path = folder / "mosquitto.conf"
    path.write_text("\n".join(lines) + "\n")
    return path


def _tls_lines(port: int, tls: BrokerTls) -> list[str]:
    return [
        f"pid_file {tls.pid}",
        f"listener {port} {tls.bind}",
        "allow_anonymous false",
        f"cafile {tls.ca}",
        f"certfile {tls.certificate}",
        f"keyfile {tls.key}",
        f"crlfile {tls.revoked}",
        "tls_version tlsv1.3",
        "require_certificate true",
        "use_identity_as_username true",
        "use_username_as_clientid true",
        f"acl_file {tls.access}",
    ]


def free_port() -> int:
    """Return a TCP port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _run(arguments: Sequence[str], cwd: Path | None = None) -> str:
    done = subprocess.run(
        arguments, capture_output=True, text=True, check=False, cwd=cwd, timeout=STEP_TIMEOUT_S,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
    )  # fmt: skip
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise BrokerError(f"{' '.join(arguments[:3])}: {last[0][:200]}")
    return done.stdout


def _with_apt(folder: Path) -> None:  # noqa: ARG001 - the same signature as the other way
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    get = [*sudo, "apt-get", *APT_OPTIONS]
    install_it = [*get, "install", "-y", "--no-install-recommends", "mosquitto"]
    try:
        _run(install_it)
    except BrokerError:
        _run([*get, "update"])
        _run(install_it)


def _without_privilege(folder: Path) -> None:
    folder = folder.resolve()
    apt = folder / "apt"
    (apt / "state/lists/partial").mkdir(parents=True, exist_ok=True)
    (apt / "cache/archives/partial").mkdir(parents=True, exist_ok=True)
    own = [*APT_OPTIONS, "-o", f"Dir::State={apt}/state", "-o", "Dir::State::status=/var/lib/dpkg/status",
           "-o", f"Dir::Cache={apt}/cache"]  # fmt: skip
    _run(["apt-get", *own, "update"])
    only = [f"--no-{kind}" for kind in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")]
    listed = _run(["apt-cache", *own, "depends", "--recurse", *only, "mosquitto"])
    packages = sorted({p for p in re.findall(r"^(\S+)$", listed, re.MULTILINE) if p.startswith("lib")})
    _fetch(folder, own, ["mosquitto"])
    binary = folder / "usr/sbin/mosquitto"
    for package in packages:
        missing = re.findall(r"(\S+) => not found", _linked(binary, folder))
        if not missing:
            break
        if any(library.startswith(re.sub(r"[-0-9.t]+$", "", package)) for library in missing):
            _fetch(folder, own, [package])


def _fetch(folder: Path, own: Sequence[str], packages: Sequence[str]) -> None:
    _run(["apt-get", *own, "download", *packages], cwd=folder)
    for package in packages:
        for archive in folder.glob(f"{package}_*.deb"):
            _run(["dpkg", "-x", str(archive), str(folder)])
            archive.unlink()


def _linked(binary: Path, folder: Path) -> str:
    folders = sorted({str(library.parent) for library in folder.glob("**/*.so.*")})
    done = subprocess.run(
        ["ldd", str(binary)], capture_output=True, text=True, check=False, timeout=30,
        env={**os.environ, "LD_LIBRARY_PATH": ":".join(folders)},
    )  # fmt: skip
    return done.stdout
