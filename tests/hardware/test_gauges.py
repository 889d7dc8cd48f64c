"""Batteries and power meters: real parts where there are any, words of the data sheets elsewhere."""

import asyncio
import socket
import threading
import time

import pytest

pytest.importorskip("smbus2")
pytest.importorskip("pymodbus")

from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from fleet_market.body import Battery
from fleet_market.errors import InputError
from fleet_market_hardware.batteries import Monitor, Reading
from fleet_market_hardware.batteries.modbus import ModbusBattery, load_map
from fleet_market_hardware.batteries.smbus import Ina226, Ina228, SmartBattery
from fleet_market_hardware.batteries.sysfs import SysfsBattery
from fleet_market_hardware.codecs.gauges import swapped
from fleet_market_hardware.devices import DeviceError, DeviceSilentError, Doubts


class Chip:
    """Registers behind an I2C bus: words as SMBus has them, blocks as they are."""

    def __init__(self, words, blocks=None):
        self.words, self.blocks, self.closed = words, blocks or {}, False

    def __call__(self, _number):
        return self

    def read_word_data(self, _address, register):
        if register not in self.words:
            raise OSError(121, "Remote I/O error")
        return self.words[register]

    def write_word_data(self, _address, register, word):
        self.words[register] = word

    def read_i2c_block_data(self, _address, register, size):
        assert len(self.blocks[register]) == size
        return list(self.blocks[register])

    def close(self):
        self.closed = True


SMART = {
    0x1A: 0x0031,
    0x08: 3052,
    0x09: 25_340,
    0x0A: 0x10000 - 1100,
    0x0D: 87,
    0x10: 9300,
    0x18: 10_000,
    0x16: 0x40,
    0x17: 312,
}


def test_a_smart_battery_tells_charge_cycles_and_health():
    gauge = SmartBattery(1, opener=Chip(SMART))
    gauge.open(1.0)
    told = gauge.read()
    battery = told.battery
    assert (battery.soc, battery.voltage_v, battery.current_a, battery.charging) == (0.87, 25.34, -1.1, False)
    assert battery.temperature_c == pytest.approx(32.05)
    assert (told.cycles, told.health, told.capacity_ah) == (312, 0.93, 9.3)


def test_a_smart_battery_with_scales_counts_tens():
    gauge = SmartBattery(1, opener=Chip(SMART | {0x1A: 0x1131, 0x09: 4_800}))
    gauge.open(1.0)
    told = gauge.read()
    assert (told.battery.voltage_v, told.capacity_ah) == (48.0, 93.0)
    assert told.battery.current_a == pytest.approx(-11.0)


def test_what_cannot_be_is_none_and_doubted():
    gauge = SmartBattery(1, opener=Chip(SMART | {0x0D: 140, 0x08: 11_731}))
    gauge.open(1.0)
    battery = gauge.read().battery
    assert (battery.soc, battery.temperature_c) == (None, None)
    assert [str(doubt) for doubt in gauge.doubts.all()] == [
        "smart battery i2c-1 0x0b: soc was 1.4: cannot be; 0 to 1 can",
        "smart battery i2c-1 0x0b: temperature_c was 899.95: cannot be; -40 to 125 degC can",
    ]


def test_nobody_at_the_address_is_told():
    chip = Chip({})
    with pytest.raises(DeviceSilentError, match="address was 11: no answer: check address"):
        SmartBattery(1, opener=chip).open(1.0)
    assert chip.closed


def test_no_bus_and_no_right_are_told():
    def refuse(code):
        def opener(_number):
            raise OSError(code, "no")

        return opener

    with pytest.raises(DeviceError, match="load i2c-dev"):
        SmartBattery(9, opener=refuse(2)).open(1.0)
    with pytest.raises(DeviceError, match="group i2c"):
        SmartBattery(9, opener=refuse(13)).open(1.0)


def test_an_ina226_measures_and_another_chip_is_refused():
    words = {0xFE: swapped(0x5449), 0xFF: swapped(0x2260), 0x01: swapped(0x1F40), 0x02: swapped(0x2570)}
    meter = Ina226(1, shunt_ohm=0.002, opener=Chip(words))
    meter.open(1.0)
    battery = meter.read().battery
    assert battery.voltage_v == pytest.approx(11.98)
    assert battery.current_a == pytest.approx(-10.0)
    with pytest.raises(DeviceError, match=r"manufacturer id was '0xffff'"):
        Ina226(1, shunt_ohm=0.002, opener=Chip(words | {0xFE: 0xFFFF})).open(1.0)
    with pytest.raises(DeviceError, match="shunt_ohm was 0"):
        Ina226(1, shunt_ohm=0)


def test_an_ina228_counts_only_what_leaves_the_battery():
    lsb = 10 / 2**19
    chip = Chip({0x3E: swapped(0x5449)}, {})
    meter = Ina228(1, shunt_ohm=0.0162, max_current_a=10.0, opener=chip)
    meter.open(1.0)
    assert chip.words[0x02] == swapped(4050)

    def show(amps, energy):
        raw = round(amps * 0.0162 / 312.5e-9) & 0xFFFFF
        chip.blocks |= {
            0x04: (raw << 4).to_bytes(3, "big"),
            0x05: (round(24 / 195.3125e-6) << 4).to_bytes(3, "big"),
            0x09: energy.to_bytes(5, "big"),
        }
        return meter.read().battery

    assert show(2.0, 1000).energy_out_j == 0.0
    out = show(2.0, 2000)
    assert out.current_a == pytest.approx(-2.0, rel=1e-3)
    assert out.energy_out_j == pytest.approx(1000 * 16 * 3.2 * lsb)
    assert show(-2.0, 5000).energy_out_j == out.energy_out_j, "charging takes nothing out"
    assert show(2.0, 0).energy_out_j == out.energy_out_j, "the chip began anew"


@pytest.fixture
def supply(tmp_path):
    folder = tmp_path / "BAT0"
    folder.mkdir()
    told = {
        "type": "Battery", "status": "Discharging", "capacity": "87", "voltage_now": "25340000", "current_now": "1100000",
        "temp": "321", "cycle_count": "312", "charge_full": "9300000", "charge_full_design": "10000000",
    }  # fmt: skip
    for name, text in told.items():
        (folder / name).write_text(text + "\n")
    return folder


def test_a_supply_of_the_kernel_is_read(supply):
    gauge = SysfsBattery("BAT0", root=supply.parent)
    gauge.open(1.0)
    told = gauge.read()
    assert told.battery == Battery(soc=0.87, voltage_v=25.34, current_a=-1.1, temperature_c=32.1, charging=False)
    assert (told.cycles, told.health) == (312, 0.93)
    (supply / "capacity").write_text("full")
    (supply / "temp").unlink()
    told = gauge.read()
    assert (told.battery.soc, told.battery.temperature_c) == (None, None)
    with pytest.raises(DeviceError, match=r"no such supply: use one of \['BAT0'\]"):
        SysfsBattery("BAT9", root=supply.parent).open(1.0)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def modbus():
    """pymodbus's own simulator, in a thread with a loop of its own."""
    port, ready, box = free_port(), threading.Event(), {}

    def serve():
        async def run():
            values = [2534, 64_436, 87, 2982, 312]
            device = SimDevice(id=7, simdata=[SimData(0, values=values, datatype=DataType.REGISTERS)])
            box["server"] = ModbusTcpServer(device, address=("127.0.0.1", port))
            await box["server"].serve_forever(background=True)
            box["loop"] = asyncio.get_running_loop()
            box["end"] = asyncio.Event()
            ready.set()
            await box["end"].wait()
            await box["server"].shutdown()

        asyncio.run(run())

    thread = threading.Thread(target=serve)
    thread.start()
    assert ready.wait(60)
    yield port
    box["loop"].call_soon_threadsafe(box["end"].set)
    thread.join(60)


def test_a_bms_over_modbus_is_read_by_its_map(modbus):
    gauge = ModbusBattery(f"tcp://127.0.0.1:{modbus}", load_map("example"), unit=7)
    gauge.open(30.0)
    told = gauge.read()
    assert told.battery.voltage_v == pytest.approx(25.34)
    assert told.battery.current_a == pytest.approx(-11.0)
    assert (told.battery.soc, told.cycles) == (0.87, 312)
    assert told.battery.temperature_c == pytest.approx(25.05)
    gauge.close()


@pytest.fixture
def modbus_line():
    """pymodbus's simulator at a serial line: two ptys, joined by a thread that carries bytes both ways."""
    import os
    import select
    import tty

    ends = [os.openpty() for _ in range(2)]
    for _, slave in ends:
        tty.setraw(slave)
    ports = [os.ttyname(slave) for _, slave in ends]
    masters = [master for master, _ in ends]
    over, ready, box = threading.Event(), threading.Event(), {}

    def carry():
        while not over.is_set():
            for master in select.select(masters, [], [], 0.01)[0]:
                os.write(masters[1 - masters.index(master)], os.read(master, 512))

    def serve():
        async def run():
            device = SimDevice(
                id=7, simdata=[SimData(0, values=[2534, 64_436, 87, 2982, 312], datatype=DataType.REGISTERS)]
            )
            server = ModbusSerialServer(device, port=ports[1], baudrate=9600)
            await server.serve_forever(background=True)
            box["loop"], box["end"] = asyncio.get_running_loop(), asyncio.Event()
            ready.set()
            await box["end"].wait()
            await server.shutdown()

        asyncio.run(run())

    threads = [threading.Thread(target=carry), threading.Thread(target=serve)]
    for thread in threads:
        thread.start()
    assert ready.wait(60)
    yield ports[0]
    box["loop"].call_soon_threadsafe(box["end"].set)
    threads[1].join(10)
    over.set()
    threads[0].join(10)
    for pair in ends:
        for end in pair:
            os.close(end)


def test_a_bms_on_a_serial_line_is_read_and_a_wrong_unit_is_not(modbus_line):
    gauge = ModbusBattery(modbus_line, load_map("example"), unit=7)
    gauge.open(30.0)
    assert gauge.read().battery.voltage_v == pytest.approx(25.34)
    gauge.close()
    with pytest.raises(DeviceSilentError, match="no answer at 9600 baud"):
        ModbusBattery(modbus_line, load_map("example"), unit=8).open(2.0)


def test_a_foreign_unit_is_silence(modbus):
    with pytest.raises(DeviceSilentError, match="unit was 8: no answer"):
        ModbusBattery(f"tcp://127.0.0.1:{modbus}", load_map("example"), unit=8).open(2.0)


def test_a_register_map_is_checked(tmp_path):
    with pytest.raises(InputError, match="use one of example"):
        load_map("unheard-of")
    file = tmp_path / "x.yaml"
    file.write_text("name: x\nsource: y\nverified: no\nregisters: {soc: {address: 70000}}\n")
    with pytest.raises(InputError, match=r"x\.yaml: (verified|registers)"):
        load_map(str(file))


class Scripted:
    name, doubts = "scripted", Doubts("scripted")

    def __init__(self, *readings):
        self.readings = list(readings)

    def open(self, timeout_s):
        pass

    def read(self):
        told = self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]
        if isinstance(told, Exception):
            raise told
        return told

    def close(self):
        pass


def energy(joules):
    return Reading(Battery(energy_out_j=joules, soc=0.5))


def test_a_counter_that_begins_anew_goes_on():
    monitor = Monitor(Scripted(energy(100.0), energy(250.0), energy(10.0), energy(30.0)))
    seen = []
    for _ in range(4):
        assert monitor._try()
        seen.append(monitor.over(Battery()).energy_out_j)
    assert seen == [100.0, 250.0, 260.0, 280.0]


def test_the_age_of_a_pack_reaches_telemetry():
    monitor = Monitor(Scripted(Reading(Battery(soc=0.5), cycles=312, health=0.93)))
    assert monitor._try()
    told = monitor.over(Battery(voltage_v=24.0))
    assert (told.cycles, told.health, told.voltage_v) == (312, 0.93, 24.0)


def test_a_silent_battery_is_not_known_any_more(monkeypatch):
    monitor = Monitor(Scripted(energy(5.0), OSError("gone")))
    monitor.open(30.0)
    assert monitor.over(Battery(voltage_v=24.0)) == Battery(soc=0.5, voltage_v=24.0, energy_out_j=5.0)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 6.0)
    assert not monitor.fresh()
    assert monitor.over(Battery(voltage_v=24.0)) == Battery(voltage_v=24.0, energy_out_j=5.0)
    monkeypatch.undo()
    monitor.close()


def test_a_gauge_that_never_answers_does_not_open():
    with pytest.raises(DeviceSilentError, match="check wiring and address"):
        Monitor(Scripted(OSError("remote I/O error"))).open(1.0)
