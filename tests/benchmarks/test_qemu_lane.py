"""The lane in QEMU, without QEMU: what it boots, what it reads from the console, what it calls a disagreement."""

import random
import shutil
import subprocess

import pytest

from benchmarks import _qemu_guest, _qemu_machine, nightly
from fleet_market.errors import FleetMarketError
from fleet_market_hardware.batteries.smbus import SmartBattery
from fleet_market_hardware.tables import Sbs

FILES = [("bin", 0o040755, b""), ("bin/busybox", 0o100755, b"12345"), ("init", 0o100755, b"#!/bin/busybox sh\n")]


def test_the_newest_kernel_of_the_plain_flavour_is_taken():
    names = [
        "linux-image-6.1.0-9-amd64",
        "linux-image-6.1.0-56-amd64",
        "linux-image-6.1.0-60-cloud-amd64",
        "linux-image-amd64",
    ]
    assert _qemu_machine.newest_image(names) == "linux-image-6.1.0-56-amd64"
    assert _qemu_machine.newest_image(["linux-image-amd64"]) is None


@pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is not installed")
def test_cpio_unpacks_what_we_pack(tmp_path):
    packed = _qemu_machine.archive(FILES)
    subprocess.run(["cpio", "-i", "--quiet"], input=packed, check=True, cwd=tmp_path, capture_output=True)
    assert (tmp_path / "bin/busybox").read_bytes() == b"12345"
    assert (tmp_path / "bin/busybox").stat().st_mode == 0o100755
    assert (tmp_path / "init").read_bytes() == FILES[2][2]


def test_records_of_the_archive_begin_at_multiples_of_four_and_tell_their_sizes():
    packed, at, names = _qemu_machine.archive(FILES), 0, []
    while at < len(packed):
        assert packed[at : at + 6] == b"070701"
        size, name_size = (int(packed[at + field : at + field + 8], 16) for field in (54, 94))
        names.append(packed[at + 110 : at + 110 + name_size - 1].decode())
        at = (at + 110 + name_size + 3) // 4 * 4
        at += (size + 3) // 4 * 4
    assert names == ["bin", "bin/busybox", "init", "TRAILER!!!"]


def test_the_guest_loads_every_module_in_order_before_it_mounts_and_quotes_what_it_runs(tmp_path):
    init = _qemu_machine.init_script(["/a b/python", "-m", "thing"], {"PYTHONPATH": "/x y"}, tmp_path)
    lines = init.splitlines()
    inserted = [line.split()[1] for line in lines if line.startswith("insmod")]
    assert inserted == [f"/modules/{name}.ko" for name in _qemu_machine.MODULES]
    assert "insmod /modules/i2c-stub.ko chip_addr=0x0b functionality=0x0f7f8000" in lines
    mounted = next(n for n, line in enumerate(lines) if line.startswith("mount -t 9p"))
    assert ",ro," in lines[mounted]
    assert mounted > max(n for n, line in enumerate(lines) if line.startswith("insmod"))
    subprocess.run(["sh", "-n"], input=init, text=True, check=True)
    files = _qemu_machine.entries(b"b", dict.fromkeys(_qemu_machine.MODULES, b"m"), init)
    assert [path for path, _, _ in files[:5]] == ["bin", "modules", "host", "bin/busybox", "init"]
    assert len(files) == 5 + len(_qemu_machine.MODULES)


def test_findings_are_found_among_what_the_kernel_says():
    console = ["\x1b[2JSeaBIOS", 'LANE-ROW {"what": "x", "value": 1.5}\r', "[ 2.0] sbs: -95", "LANE-END 0\r", "reboot"]
    assert _qemu_machine.findings(console) == ([{"what": "x", "value": 1.5}], 0)
    assert _qemu_machine.findings(console[:3])[1] is None
    assert _qemu_machine.findings(["LANE-END 137"])[1] == 137


def test_without_qemu_it_says_what_to_install(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert "apt-get install --no-install-recommends qemu-system-x86" in _qemu_machine.missing()
    with pytest.raises(FleetMarketError, match="qemu-system-x86_64 and busybox not found"):
        next(_qemu_machine.run("any", [], limit_s=1.0))


def test_the_nightly_leaves_it_out_where_it_cannot_run_and_says_so(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(nightly, "PARTS", ("qemu_lane",))
    with pytest.raises(SystemExit) as ended:
        nightly.main()
    assert ended.value.code == 0
    assert "qemu_lane: left out: qemu-system-x86_64" in capsys.readouterr().out


class Chip:
    """Words of one battery, where a bus would be."""

    def __init__(self, words):
        self._words = words

    def read_word_data(self, _address, register):
        return self._words[register]

    def close(self):
        """Nothing is held."""


def test_every_random_battery_has_all_fields_in_both_directions_of_its_current():
    rng, seen = random.Random(0), set()
    for _ in range(200):
        words = _qemu_guest.registers(rng)
        assert all(0 <= word <= 0xFFFF for word in words.values())
        reading = _qemu_guest._read(SmartBattery(0, opener=lambda _bus, words=words: Chip(words)))
        assert None not in reading.values()
        seen.add((reading["charging"], reading["current_a"] < 0))
    assert seen == {(True, False), (False, False), (False, True)}


def test_one_bit_in_any_field_disagrees_and_a_field_that_one_does_not_have_does():
    words = _qemu_guest.registers(random.Random(3))
    words |= {Sbs.CURRENT: 500, Sbs.STATUS: 0, Sbs.RELATIVE_SOC: 50, Sbs.CYCLES: 40, Sbs.TEMPERATURE: 3000}

    def read(words):
        return _qemu_guest._read(SmartBattery(0, opener=lambda _bus: Chip(words)))

    right = read(words)
    assert _qemu_guest.disagreements(right, right) == []
    assert _qemu_guest.disagreements(right, right | {"temperature_c": right["temperature_c"] + 0.05})
    assert _qemu_guest._warmer(right)["temperature_c"] == pytest.approx(300.0 - 273.1)
    for register in set(words) - {Sbs.SPECIFICATION_INFO, Sbs.STATUS}:
        assert _qemu_guest.disagreements(right, read(words | {register: words[register] ^ 1})), register
    assert _qemu_guest.disagreements(right, read(words | {Sbs.STATUS: 1 << 6}))
    assert _qemu_guest.disagreements(right, right | {"cycles": None}) == [f"cycles {right['cycles']} against None"]
