"""Codecs against golden bytes, and against bytes of no sense at all."""

import binascii
import math
import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_market.errors import ProtocolError
from fleet_market_hardware.codecs import cansimple, cia402, create2, gauges, vesc
from fleet_market_hardware.tables import ODrive
from fleet_market_hardware.testing_bytes import PARSERS, mutate

FUZZ = settings(max_examples=2000, deadline=None)


def test_vesc_frames_are_those_of_the_vendor():
    # COMM_GET_VALUES, as in the VESC project's own UART examples: CRC16/XMODEM of 04 is 0x4084.
    assert vesc.frame(b"\x04") == bytes.fromhex("02 01 04 40 84 03")
    assert vesc.frame(vesc.set_erpm(1000))[2:7] == bytes.fromhex("08 00 00 03 e8")
    assert vesc.frame(bytes(300))[:3] == bytes.fromhex("03 01 2c")


def _values(**changes):
    told = {"t": 315, "m": 285, "im": -150, "ii": 1234, "duty": 500, "erpm": -7000, "v": 242, "wh": 10_000, "tacho": -84}
    told |= changes
    return struct.pack(
        ">BhhiiiihihiiiiiiB", 4, told["t"], told["m"], told["im"], told["ii"], 0, 0, told["duty"], told["erpm"], told["v"],
        0, 0, told["wh"], 0, told["tacho"], 84, 3,
    )  # fmt: skip


def test_vesc_values_are_in_si_units():
    told = vesc.decode_values(_values() + struct.pack(">iB", 0, 9))
    assert (told.fet_temperature_c, told.motor_current_a, told.input_current_a) == (31.5, -1.5, 12.34)
    assert (told.input_v, told.erpm, told.tachometer, told.fault, told.controller_id) == (24.2, -7000, -84, 3, 9)
    assert math.isclose(told.energy_out_j, 3600.0)
    assert vesc.decode_values(_values()).controller_id is None


@given(
    payloads=st.lists(st.binary(min_size=1, max_size=400), max_size=4), cuts=st.integers(1, 50), junk=st.binary(max_size=9)
)
@settings(deadline=None)
def test_vesc_frames_come_out_however_the_stream_is_cut(payloads, cuts, junk):
    stream = b"".join(vesc.frame(p) for p in payloads)
    deframer = vesc.Deframer()
    assert [p for i in range(0, len(stream), cuts) for p in deframer.feed(stream[i : i + cuts])] == payloads
    # A header in the junk may swallow what follows until its length is there, and never for longer.
    told = deframer.feed(junk) + deframer.feed(b"\x00" * 600 + vesc.frame(b"\x04"))
    assert told[-1:] == [b"\x04"]


@given(data=st.binary(max_size=600))
@FUZZ
def test_vesc_takes_no_frame_with_a_wrong_checksum(data):
    for payload in vesc.Deframer().feed(data):
        assert vesc.frame(payload) in data


@given(data=st.binary(max_size=300))
@FUZZ
def test_create_takes_no_packet_with_a_wrong_checksum(data):
    for packet in create2.Destreamer().feed(data):
        assert create2.stream(packet) in data


def test_create_reads_group_100():
    data = bytearray(80)
    data[16] = 2
    data[17:21] = struct.pack(">Hh", 14_400, -250)
    data[21] = 25
    data[22:26] = struct.pack(">HH", 2000, 2696)
    data[40] = 2
    data[52:56] = struct.pack(">HH", 65_535, 12)
    data[71:75] = struct.pack(">hh", -31, 40)
    told = create2.decode(bytes(data))
    assert (told.charging_state, told.voltage_v, told.current_a, told.temperature_c) == (2, 14.4, -0.25, 25.0)
    assert (told.charge_ah, told.capacity_ah, told.mode) == (2.0, 2.696, 2)
    assert (told.left_counts, told.right_counts, told.left_current_a, told.right_current_a) == (65_535, 12, -0.031, 0.04)
    assert create2.Destreamer().feed(b"\x13\x00" + create2.stream(bytes(data))) == [bytes(data)]


def test_create_drives_the_right_wheel_first():
    # The specification's own example of opcode 145 has the order [Right high][Right low][Left high][Left low].
    assert create2.drive_direct(-200, 9000) == bytes((145, 0x01, 0xF4, 0xFF, 0x38))


def test_cansimple_agrees_with_the_dbc_of_others():
    odrive_can = pytest.importorskip("odrive_can")
    dbc = odrive_can.get_dbc()
    vel = dbc.get_message_by_name("Axis1_Set_Input_Vel")
    assert vel.frame_id == cansimple.arbitration_id(1, ODrive.SET_INPUT_VEL)
    assert vel.decode(cansimple.set_input_vel(-2.5, 0.5)) == {"Input_Vel": -2.5, "Input_Torque_FF": 0.5}
    state = dbc.get_message_by_name("Axis0_Set_Axis_State").decode(cansimple.set_axis_state(8))
    assert str(state["Axis_Requested_State"]) == "CLOSED_LOOP_CONTROL"
    for command, name, fields in (
        (ODrive.ENCODER_ESTIMATES, "Get_Encoder_Estimates", ("Pos_Estimate", "Vel_Estimate")),
        (ODrive.BUS_VOLTAGE_CURRENT, "Get_Bus_Voltage_Current", ("Bus_Voltage", "Bus_Current")),
        (ODrive.TEMPERATURE, "Get_Temperature", ("FET_Temperature", "Motor_Temperature")),
        (ODrive.TORQUES, "Get_Torques", ("Torque_Target", "Torque_Estimate")),
        (ODrive.IQ, "Get_Iq", ("Iq_Setpoint", "Iq_Measured")),
    ):
        message = dbc.get_message_by_name(f"Axis5_{name}")
        assert cansimple.split_id(message.frame_id) == (5, command)
        assert cansimple.decode(command, message.encode(dict(zip(fields, (1.5, -2.0), strict=True)))) == cansimple.Pair(
            1.5, -2
        )
    beat = {"Axis_Error": 64, "Axis_State": "CLOSED_LOOP_CONTROL", "Procedure_Result": 0, "Trajectory_Done_Flag": 0}
    assert cansimple.decode(1, dbc.get_message_by_name("Axis0_Heartbeat").encode(beat)) == cansimple.Heartbeat(64, 8)


def test_cansimple_refuses_what_is_not_finite():
    with pytest.raises(ProtocolError, match="not finite"):
        cansimple.decode(ODrive.ENCODER_ESTIMATES, struct.pack("<ff", math.nan, 0))


@pytest.mark.parametrize(
    ("word", "state"),
    [
        (0x0637, cia402.State.ENABLED),
        (0x0250, cia402.State.DISABLED),
        (0x0008, cia402.State.FAULT),
        (0x0631, "ready to switch on"),
    ],
)
def test_statuswords(word, state):
    assert cia402.state_of(word) == state


def test_every_state_of_a_drive_leads_to_operation_or_waits():
    assert [cia402.towards_enabled(s) for s in cia402.State] == [None, 6, 7, 15, None, 0, None, 0x80]


def test_gauges_count_as_the_data_sheets_say():
    assert gauges.signed(0xFFFF) == -1
    assert gauges.swapped(0x1234) == 0x3412
    assert math.isclose(gauges.sbs_temperature_c(2982), 25.05)
    assert gauges.sbs_scale(0x1231) == gauges.SbsScale(100.0, 10.0)
    # INA226 data sheet, table 8: 0x2570 is 11.98 V; shunt 0x1F40 is 20 mV, 10 A at 2 mohm.
    assert math.isclose(gauges.ina226_voltage_v(0x2570), 11.98)
    assert math.isclose(gauges.ina226_current_a(0x1F40, 0.002), 10.0)
    # INA228 data sheet, design example: 10 A at 16.2 mohm, CURRENT_LSB 19.07 uA, SHUNT_CAL 4050.
    assert gauges.ina228_shunt_cal(10 / 2**19, 0.0162) == 4050
    assert math.isclose(gauges.ina228_current_a(bytes.fromhex("fffff0"), 1.0), -312.5e-9)
    assert math.isclose(gauges.ina228_voltage_v(bytes.fromhex("3c0000")), 0x3C000 * 195.3125e-6)


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_no_parser_fails_on_a_hundred_thousand_inputs_or_takes_a_wrong_checksum(name):
    rng = random.Random(7)
    for _ in range(100_000):
        PARSERS[name].check(mutate(rng, PARSERS[name].seeds, PARSERS[name].pieces))


def test_the_mutator_finds_a_parser_that_skips_the_checksum(monkeypatch):
    monkeypatch.setattr(binascii, "crc_hqx", lambda data, _start: data[0])
    spoiled = vesc.frame(b"\x04\x05")
    monkeypatch.undo()
    assert vesc.Deframer().feed(spoiled) == []
    with pytest.raises(AssertionError):
        PARSERS["vesc"].demand(b"\x04\x05", spoiled)
