"""Process data between the CiA 402 base and its drives: what is mapped, refused, missed, and not asked by SDO any more."""

import itertools
import os
import struct

import pytest

pytest.importorskip("canopen", reason="canopen is not installed: pip install 'fleet-market[hardware]'")

from fleet_market_hardware.bases.cia402 import MOST_MISSED, Cia402Wheels
from fleet_market_hardware.devices import DeviceError
from fleet_market_hardware.emulators.cia402 import COUNTS_PER_TURN, Cia402Emulator

_numbers = itertools.count()
TORQUE, DC_LINK = 0x6077, 0x6079


@pytest.fixture
def emulator():
    with Cia402Emulator(f"pdo-{os.getpid()}-{next(_numbers)}") as emulated:
        yield emulated


@pytest.fixture
def wheels(emulator):
    channel = emulator.drives[0].network.bus.channel_info.removeprefix("Virtual bus channel ")
    base = Cia402Wheels(channel, interface="virtual", counts_per_turn=COUNTS_PER_TURN)
    yield base
    base.close()


def mapped(drive, index):
    """Return the objects that a drive says a mapping parameter has."""
    count = drive.get_data(index, 0)[0]
    return [int.from_bytes(drive.get_data(index, 1 + n), "little") >> 16 for n in range(count)]


def requests(emulator):
    """Return the SDO requests that drives get from now on, as (index, sub-index)."""
    seen = []
    for node in emulator.nodes:
        emulator.drives[0].network.subscribe(
            0x600 + node, lambda _id, data, _stamp: seen.append(int.from_bytes(data[1:3], "little"))
        )
    return seen


def commands(emulator):
    """Return what drives are told by process data from now on, as (controlword, target velocity), by node."""
    seen = {node: [] for node in emulator.nodes}
    for node, told in seen.items():
        emulator.drives[0].network.subscribe(
            0x200 + node, lambda _id, data, _stamp, told=told: told.append(struct.unpack("<Hi", data))
        )
    return seen


def read(wheels, left=0.0, right=0.0):
    """Return the first reading of a few exchanges: a busy machine may miss one."""
    return next(reading for _ in range(MOST_MISSED) if (reading := wheels.exchange(left, right)) is not None)


def test_drives_tell_what_was_mapped(emulator, wheels):
    wheels.open(60.0)
    left, right = emulator.drives
    assert mapped(left, 0x1600) == [0x6040, 0x60FF]
    assert mapped(left, 0x1A00) == mapped(right, 0x1A00) == [0x6041, 0x606C, TORQUE]
    assert (mapped(left, 0x1A01), mapped(right, 0x1A01)) == ([0x6064, DC_LINK], [0x6064])
    assert left.nmt.state == right.nmt.state == "OPERATIONAL"
    assert left.tpdo[1].enabled
    assert left.tpdo[1].cob_id == 0x181


def test_an_exchange_asks_nothing_by_sdo(emulator, wheels):
    wheels.open(60.0)
    asked = requests(emulator)
    reading = read(wheels, 3.0, 2.0)
    assert not asked
    assert emulator.plant.target == pytest.approx([3.0, 2.0], abs=1e-3)
    assert reading.voltage_v == pytest.approx(24.1)
    assert reading.left.torque_nm == pytest.approx(-0.037 * 1.27)


@pytest.mark.parametrize(
    ("refused", "told"),
    [
        (0x6041, "0x1a00:01 was '0x60410010'"),
        (0x6064, "0x1a01:01 was '0x60640020'"),
        (0x60FF, "0x1600:02 was '0x60ff0020'"),
    ],
)
def test_a_drive_that_refuses_names_node_object_value_and_mend(emulator, wheels, refused, told):
    emulator.drives[1].refuses.add(refused)
    with pytest.raises(DeviceError, match=f"node 2: {told}.*refuses it: allow this PDO mapping"):
        wheels.open(60.0)


def test_a_drive_that_tells_another_mapping_is_not_believed(emulator, wheels):
    emulator.drives[0].add_read_callback(lambda index, subindex, **_rest: 7 if (index, subindex) == (0x1A00, 2) else None)
    with pytest.raises(DeviceError, match="node 1: 0x1a00:02 was '0x7': the drive took 0x606c0020"):
        wheels.open(60.0)


def test_what_a_drive_does_not_map_is_asked_slowly(emulator, wheels):
    emulator.drives[0].refuses |= {TORQUE, DC_LINK}
    wheels.open(60.0)
    asked = requests(emulator)
    readings = [read(wheels) for _ in range(3)]
    assert asked == [TORQUE, DC_LINK]
    assert all(reading.voltage_v == pytest.approx(24.1) and reading.left.torque_nm is not None for reading in readings)


def test_a_drive_that_sends_no_process_data_is_lost_and_set_up_anew(emulator, wheels):
    wheels.open(60.0)
    read(wheels)
    emulator.drives[1].nmt.state = "PRE-OPERATIONAL"  # as after a brown-out; it still answers SDOs
    assert [wheels.exchange(1.0, 1.0) for _ in range(MOST_MISSED - 1)] == [None] * (MOST_MISSED - 1)
    with pytest.raises(OSError, match=r"nodes \[2\] sent no process data"):
        wheels.exchange(1.0, 1.0)
    wheels.open(60.0)
    assert read(wheels) is not None


def test_a_fault_is_told_and_its_error_code_asked_for_once(emulator, wheels):
    wheels.open(60.0)
    asked = requests(emulator)
    emulator.status[1] = 0x08
    assert {read(wheels, 1.0, 1.0).right.fault for _ in range(3)} == {"node 2: fault, error 0x8611"}
    assert asked == [0x603F]
    assert emulator.status[1] == 0x08


def test_commands_during_a_halt_keep_the_quick_stop(emulator, wheels):
    wheels.open(60.0)
    wheels.halt()
    told = commands(emulator)
    read(wheels, 3.0, 3.0)
    assert emulator.status == [0x07, 0x07]
    assert {command for commands_of_one in told.values() for command in commands_of_one} == {(0x02, 0)}
    wheels.recover()
    read(wheels, 3.0, 3.0)
    assert emulator.plant.target == pytest.approx([3.0, 3.0], abs=1e-3)


def test_a_drive_that_left_enabled_by_itself_is_not_led_back_by_a_command(emulator, wheels):
    wheels.open(60.0)
    emulator.status[0] = 0x40  # as when its power stage loses its supply
    told = read(wheels, 3.0, 3.0)  # only by this one's answer it is known
    assert told.left.fault.startswith("node 1: switch on disabled: it has stopped by itself")
    assert told.right.fault == ""
    told = commands(emulator)
    for _ in range(3):
        read(wheels, 3.0, 3.0)
    assert emulator.status == [0x21, 0x27]
    assert set(told[1]) == {(0x06, 0)}
    assert {word for word, _ in told[2]} == {0x0F}
    assert emulator.plant.target[0] == 0.0


def test_only_commands_keep_the_drives_from_stopping_by_themselves(emulator, wheels, eventually):
    beats, ours = [], 0x700 + 0x7F
    emulator.drives[0].network.subscribe(ours, lambda _id, data, _stamp: beats.append(bytes(data)))
    wheels.open(60.0)
    for _ in range(3):
        read(wheels, 3.0, 3.0)
    heard = len(beats)
    assert heard >= 3
    assert set(beats) == {b"\x05"}
    eventually(lambda: emulator.plant.target == [0.0, 0.0])  # no exchange: as a driver that hangs
    assert len(beats) == heard
