"""Part of `qemu_lane`: a machine of Debian's kernel, busybox and this computer's files, emulated by QEMU (TCG, no KVM).

The kernel's package is unpacked into ``.cache/qemu_lane`` and never installed. The guest sees this computer's root over 9p,
read-only, so that it runs the same Python and the same checkout.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import ROOT
from fleet_market.errors import FleetMarketError

FOLDER = ROOT / ".cache" / "qemu_lane"
QEMU, BUSYBOX = "qemu-system-x86_64", "busybox"
INSTALL = "apt-get install --no-install-recommends qemu-system-x86 busybox-static"
IMAGE = re.compile(r"^linux-image-6\.1\.0-(\d+)-amd64$")
MODULES = (
    "virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "netfs", "fscache", "9pnet",
    "9pnet_virtio", "9p", "can-dev", "can", "can-raw", "vcan", "i2c-dev", "i2c-stub", "sbs-battery",
)  # fmt: skip
"""In the order in which they need each other."""
ARGUMENTS = {"i2c-stub": "chip_addr=0x0b functionality=0x0f7f8000"}
"""i2c-stub: one chip at the address of smart batteries; bytes, words, blocks, no raw transfers."""
FOUND, ENDED = "LANE-ROW ", "LANE-END "
"""Begin the lines of the guest's console that are for us: one finding as JSON; the exit code of the guest's program."""
MEMORY_MB = 1024


def missing() -> str:
    """Return what keeps this computer from running the lane, and what to install; empty if nothing does."""
    lacking = [tool for tool in (QEMU, BUSYBOX) if shutil.which(tool) is None]
    if lacking:
        return f"{' and '.join(lacking)} not found: {INSTALL}"
    if _unpacked() is None and shutil.which("apt-get") is None:
        return "apt-get not found: the kernel comes as a package of Debian 12 (linux-image-6.1.0-*-amd64)"
    return ""


def newest_image(names: Iterable[str]) -> str | None:
    """Return the newest of apt's names of Debian's 6.1 kernels, other flavours left out; None if there is none."""
    numbers = {int(match[1]): name for name in names if (match := IMAGE.match(name))}
    return numbers[max(numbers)] if numbers else None


def kernel() -> tuple[Path, Mapping[str, Path]]:
    """Return the kernel and its modules by name; downloads and unpacks them the first time.

    Raises
    ------
    FleetMarketError
        If apt offers no such package, or it lacks a module.
    """
    image = _unpacked() or _download()
    there = {path.name.removesuffix(".ko"): path for path in FOLDER.glob("kernel/lib/modules/*/kernel/**/*.ko")}
    if lacking := [name for name in MODULES if name not in there]:
        raise FleetMarketError(f"{image} comes without the modules {', '.join(lacking)}: remove {FOLDER} and start again")
    return image, {name: there[name] for name in MODULES}


def _unpacked() -> Path | None:
    return next(iter(sorted(FOLDER.glob("kernel/boot/vmlinuz-*"))), None)


def _download() -> Path:
    said = _run(["apt-cache", "search", "--names-only", r"^linux-image-6\.1\.0-[0-9]+-amd64$"])
    name = newest_image(line.split(" ")[0] for line in said.splitlines())
    if name is None:
        raise FleetMarketError("apt offers no linux-image-6.1.0-*-amd64: run apt-get update on Debian 12")
    FOLDER.mkdir(parents=True, exist_ok=True)
    _run(["apt-get", "download", name])
    for package in FOLDER.glob("linux-image-*.deb"):
        _run(["dpkg", "-x", str(package), "unpacking"])
        package.unlink()
    shutil.rmtree(FOLDER / "kernel", ignore_errors=True)
    (FOLDER / "unpacking").rename(FOLDER / "kernel")
    found = _unpacked()
    if found is None:
        raise FleetMarketError(f"{name} holds no boot/vmlinuz: another package than was expected")
    return found


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=FOLDER if FOLDER.exists() else ROOT)
    if done.returncode:
        raise FleetMarketError(f"{shlex.join(command)}: exit code {done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout


def init_script(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> str:
    """Return the guest's first process: modules, mounts, vcan0 up, `command` in this computer's root, power off."""
    inserting = [f"insmod /modules/{name}.ko {ARGUMENTS.get(name, '')}".rstrip() for name in MODULES]
    variables = " ".join(f"{key}={shlex.quote(value)}" for key, value in environment.items())
    inside = f"cd {shlex.quote(str(folder))} && exec env -i {variables} {shlex.join(command)}"
    return "\n".join(
        [
            "#!/bin/busybox sh",
            "export PATH=/bin",
            "/bin/busybox --install -s /bin",
            *inserting,
            "mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=262144,cache=loose host /host",
            "mount -t proc proc /host/proc",
            "mount -t sysfs sysfs /host/sys",
            "mount -t devtmpfs devtmpfs /host/dev",
            "mkdir -p /host/dev/shm && mount -t tmpfs tmpfs /host/dev/shm",
            "ip link set lo up",
            "ip link add vcan0 type vcan",
            "ip link set vcan0 up",
            f"chroot /host /bin/sh -c {shlex.quote(inside)}",
            f'echo "{ENDED}$?"',
            "poweroff -f",
            "",
        ]
    )


def entries(busybox: bytes, modules: Mapping[str, bytes], init: str) -> list[tuple[str, int, bytes]]:
    """Return what is in the initial file system: path, mode, content; folders before what is in them."""
    folders = [(name, 0o040755, b"") for name in ("bin", "modules", "host")]
    programs = [("bin/busybox", 0o100755, busybox), ("init", 0o100755, init.encode())]
    return folders + programs + [(f"modules/{name}.ko", 0o100644, content) for name, content in modules.items()]


def archive(files: Iterable[tuple[str, int, bytes]]) -> bytes:
    """Return a cpio archive of the format "newc" (the kernel's Documentation/driver-api/early-userspace/buffer-format)."""
    return b"".join(_record(n, *file) for n, file in enumerate([*files, ("TRAILER!!!", 0, b"")], start=1))


def _record(number: int, path: str, mode: int, content: bytes) -> bytes:
    name = path.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
    return b"".join(part + bytes(-len(part) % 4) for part in (head, content))


def findings(console: Iterable[str]) -> tuple[list[dict[str, Any]], int | None]:
    """Return what the guest has found, and its program's exit code: None if it did not come to its end."""
    rows, code = [], None
    for line in console:
        if FOUND in line:
            rows.append(json.loads(line.partition(FOUND)[2]))
        elif ENDED in line:
            code = int(line.partition(ENDED)[2])
    return rows, code


def run(module: str, arguments: Sequence[str], *, limit_s: float) -> Iterator[dict[str, Any]]:
    """Boot a guest, run ``python -m module`` in it, and return what it has found.

    Raises
    ------
    FleetMarketError
        If the lane cannot be had here, or the guest does not come to a good end within `limit_s`.
    """
    if why := missing():
        raise FleetMarketError(why)
    image, modules = kernel()
    paths = os.pathsep.join(str(Path(path).resolve()) for path in sys.path if path)
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/dev/shm", "TMPDIR": "/dev/shm",  # noqa: S108
        "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1",
    }  # fmt: skip
    init = init_script([sys.executable, "-m", module, *arguments], environment, ROOT)
    busybox = Path(shutil.which(BUSYBOX) or BUSYBOX).read_bytes()
    packed = archive(entries(busybox, {name: path.read_bytes() for name, path in modules.items()}, init))
    initial = FOLDER / "initrd.gz"
    initial.write_bytes(gzip.compress(packed, 1))
    command = [
        QEMU, "-M", "q35", "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", str(MEMORY_MB), "-nographic", "-no-reboot",
        "-kernel", str(image), "-initrd", str(initial), "-append", "console=ttyS0 quiet panic=-1",
        "-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap", "-nic", "none",
    ]  # fmt: skip
    console = FOLDER / "console.log"
    with console.open("wb") as log:
        try:
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False, timeout=limit_s)
        except subprocess.TimeoutExpired as error:
            raise FleetMarketError(f"the guest was not done within {limit_s:g} s: see {console}") from error
    rows, code = findings(console.read_text("utf-8", "replace").splitlines())
    if code != 0:
        raise FleetMarketError(
            f"the guest ended with {'no exit code' if code is None else f'exit code {code}'}: see {console}"
        )
    yield from rows
