"""A PostgreSQL server of one's own for tests and benchmarks: fresh, on loopback, gone afterwards.

``python -m fleet_market.testing.postgres`` installs the server with apt where it is missing.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fleet_market.errors import StoreError

SYSTEM_FOLDER = Path("/usr/lib/postgresql")
START_S = 60.0
PACKAGE = "postgresql"
PASSWORD = "demo"  # noqa: S105 - of a server that lives for one test
_NO_CLUSTER = "create_main_cluster = false\n"
"""Debian's package would else start a server of its own."""


def find() -> Path | None:
    """Return the folder of the newest server's programs on this machine, None if there is none."""
    versions = sorted(SYSTEM_FOLDER.glob("*/bin/initdb"), key=lambda p: float(p.parts[-3]))
    found = str(versions[-1]) if versions else shutil.which("initdb")
    return Path(found).resolve().parent if found else None


def install() -> Path:
    """Return the folder of the server's programs; install them with apt if they are missing.

    Raises
    ------
    StoreError
        If that is not possible here.
    """
    if (found := find()) is not None:
        return found
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    settings = "/etc/postgresql-common/createcluster.conf"
    keep_quiet = f"mkdir -p {Path(settings).parent} && [ -e {settings} ] || printf '{_NO_CLUSTER}' > {settings}"
    get = [*sudo, "apt-get", "-o", "DPkg::Lock::Timeout=60"]
    install_it = [*get, "install", "-y", "--no-install-recommends", PACKAGE]
    try:
        subprocess.run([*sudo, "sh", "-c", keep_quiet], check=True, capture_output=True)
        if subprocess.run(install_it, check=False, capture_output=True, env=_quiet()).returncode:
            subprocess.run([*get, "update"], check=True, capture_output=True, env=_quiet())
            subprocess.run(install_it, check=True, capture_output=True, env=_quiet())
    except (OSError, subprocess.CalledProcessError) as error:
        raise StoreError(f"PostgreSQL cannot be installed ({error}): install the package {PACKAGE} and try again") from None
    if (found := find()) is None:
        raise StoreError(f"the package {PACKAGE} brought no initdb")
    return found


class Cluster:
    """One server; `address` is where it listens, as the superuser ``market``."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self.folder = programs, folder
        self.port = _free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Address of the database ``market``."""
        return f"postgresql://market:{PASSWORD}@127.0.0.1:{self.port}/market"

    def make(self) -> None:
        """Make the cluster and its database and start it."""
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._run("initdb", "-D", self.folder / "data", "-U", "market", "-A", "scram-sha-256", "--pwfile", secret,
                  "-E", "UTF8", "--no-locale")  # fmt: skip
        self.start()
        self._run("createdb", "-h", "127.0.0.1", "-p", self.port, "-U", "market", "market")

    def start(self, *settings: str) -> None:
        """Start the server and wait until it answers; `settings` like ``fsync=off``.

        Raises
        ------
        StoreError
            If it does not come up.
        """
        options: list[str] = []
        for setting in ("listen_addresses=127.0.0.1", f"port={self.port}", "unix_socket_directories=", *settings):
            options += ["-c", setting]
        log = (self.folder / "log").open("ab")
        with log:
            self.process = subprocess.Popen(
                [self._programs / "postgres", "-D", self.folder / "data", *options],
                stdout=log, stderr=log, cwd=self.folder, start_new_session=True, **_other_user(),
            )  # fmt: skip
        deadline = time.monotonic() + START_S
        while self._call(
            "pg_isready", "-q", "-h", "127.0.0.1", "-p", self.port, "-U", "market", "-d", "postgres"
        ).returncode:
            if self.process.poll() is not None or time.monotonic() > deadline:
                tail = (self.folder / "log").read_text(errors="replace")[-400:]
                raise StoreError(f"PostgreSQL did not start: {tail}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop the server, if it runs."""
        self._end("terminate")

    def kill(self) -> None:
        """End the server with SIGKILL; its children follow when they notice."""
        self._end("kill")

    def _end(self, how: str) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                getattr(self.process, how)()
            self.process.wait()
            self.process = None

    def _run(self, program: str, *arguments: object) -> None:
        done = self._call(program, *arguments)
        if done.returncode:
            raise StoreError(f"{program}: {done.stderr.decode(errors='replace').strip()[-300:]}")

    def _call(self, program: str, *arguments: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [self._programs / program, *map(str, arguments)], capture_output=True, check=False, cwd=self.folder,
            env={**os.environ, "PGPASSWORD": PASSWORD, "LC_ALL": "C"}, **_other_user(),
        )  # fmt: skip


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """Run a server for as long as the context lasts; raises `StoreError` if there is none to run."""
    programs = find()
    if programs is None:
        raise StoreError("PostgreSQL is not installed: run `make postgres`")
    folder = Path(tempfile.mkdtemp(prefix="fleet-market-postgres-"))
    if user := _other_user():
        shutil.chown(folder, user["user"], user["group"])
    made = Cluster(programs, folder)
    try:
        made.make()
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _other_user() -> dict[str, Any]:
    """Return whom to run as: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            known = pwd.getpwnam(name)
            return {"user": known.pw_uid, "group": known.pw_gid, "extra_groups": []}
    raise StoreError("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody")


def _quiet() -> dict[str, str]:
    return {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main(arguments: Sequence[str] = sys.argv[1:]) -> None:
    """Install the server where it is missing; say where it is."""
    if arguments:
        sys.exit(__doc__)
    try:
        sys.stdout.write(f"PostgreSQL: {install()}\n")
    except StoreError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
