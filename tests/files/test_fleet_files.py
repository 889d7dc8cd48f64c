from pathlib import Path

import pytest

from fleet_market.adapters.fleet_files import load_fleet, load_orders
from fleet_market.body import Pose, RobotType
from fleet_market.errors import InputError

GOOD = """\
zone: hall
map: hall.yaml
market: {batch_s: 1.0, lease_s: 20.0}
tariff: {energy_credits_per_kwh: 30.5}
customers: {ann: 12.5}
places:
  dock: 1.5;2;1.57
  shelf: {x: 3, y: 4, radius_m: 0.5}
chargers: ["1;1;0", {x: 2, y: 1}]
types:
  heavy: {like: carrier, mass_kg: 60.0, battery: {capacity_wh: 900.0}}
robots:
  - {id: amr-1, type: heavy, owner: acme, start: "5;5;0.5", soc: 0.5}
  - {id: amr-2, type: runner}
"""
HEADER = "id,pickup,dropoff,payload_kg,release_s,deadline_s,max_price\n"


def written(folder: Path, text: str | bytes, name: str = "fleet.yaml") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_fleet_file_is_read_exactly(tmp_path):
    fleet = load_fleet(written(tmp_path, GOOD))
    assert (fleet.zone, fleet.map) == ("hall", tmp_path / "hall.yaml")
    assert (fleet.terms.batch_s, fleet.terms.lease_s, fleet.terms.accept_s) == (1.0, 20.0, 6.0)
    assert fleet.tariff.energy_uc_per_kwh == 30_500_000
    assert fleet.customers == {"ann": 12_500_000}
    assert (fleet.places["dock"].yaw, fleet.places["shelf"].yaw) == (1.57, None)
    assert fleet.places["shelf"].radius_m == 0.5
    assert fleet.chargers == (Pose(1, 1, 0), Pose(2, 1, 0))
    first, second = fleet.robots
    assert (first.type.mass_kg, first.type.battery.capacity_wh, first.type.battery.voltage_v) == (60.0, 900.0, 24.0)
    assert (first.start, first.soc, first.owner) == (Pose(5, 5, 0.5), 0.5, "acme")
    assert (second.start, second.owner, second.type.name) == (None, "amr-2", "runner")


@pytest.mark.parametrize(
    ("old", "new", "field", "mend"),
    [
        ("zone: hall", "zone: Hall!", "zone", "lower-case"),
        ("zone: hall", "zome: hall", "zome", "no such field"),
        ("batch_s: 1.0", "batch_s: -1.0", "market.batch_s", "greater than 0"),
        ("batch_s: 1.0", "batch: 1.0", "market.batch", "extra"),
        ("30.5", "-1", "tariff.energy_credits_per_kwh", "at least 0"),
        ("ann: 12.5", "ann: lots", "customers.ann", "decimal number"),
        ("ann: 12.5", "Ann: 12.5", "customers", "lower-case"),
        ("dock: 1.5;2;1.57", "dock: 1.5", "places.dock", "x;y"),
        ("dock: 1.5;2;1.57", "dock: a;b", "places.dock", "x;y"),
        ("radius_m: 0.5", "radius_m: 9", "places.shelf.radius_m", "0.05 to 5"),
        ('"1;1;0"', '"1;.inf"', "chargers[0]", "x;y"),
        ("mass_kg: 60.0", "mass_kg: -1", "types.heavy.mass_kg", "greater than 0"),
        ("mass_kg: 60.0", "weight: 60", "types.heavy.weight", "extra"),
        ("mass_kg: 60.0", "parcels: 0", "types.heavy.parcels", "at least 1"),
        ("mass_kg: 60.0", "drive: skid", "types.heavy.wheelbase_m", "above 0"),
        (
            "mass_kg: 60.0",
            "surfaces: {mud: {rolling_resistance: -1}}",
            "types.heavy.surfaces.mud.rolling_resistance",
            "greater than or equal to 0",
        ),
        ("mass_kg: 60.0", "compute_modes_w: {idle: .nan}", "types.heavy.compute_modes_w.idle", "finite"),
        ("capacity_wh: 900.0", "chemistry: nimh", "types.heavy.battery.chemistry", "'lfp', 'nmc' or 'lmo'"),
        ("capacity_wh: 900.0", "target_soc: 1.5", "types.heavy.battery.target_soc", "allowed: at least 0, at most 1"),
        ("capacity_wh: 900.0", "target_soc: 0.2", "types.heavy.battery.target_soc", "above resume_soc (0.25), at most 1"),
        (
            "capacity_wh: 900.0",
            "temperature_c: 90",
            "types.heavy.battery.temperature_c",
            "allowed: at least -20, at most 60",
        ),
        ("capacity_wh: 900.0", "cycle_life_efc: 0", "types.heavy.battery.cycle_life_efc", "allowed: greater than 0"),
        ("mass_kg: 60.0", "wear: {tread_slip: 2}", "types.heavy.wear.tread_slip", "allowed: at least 0, at most 1"),
        ("mass_kg: 60.0", "wear: {brush_set: -1}", "types.heavy.wear.brush_set", "at least 0"),
        ("mass_kg: 60.0", "mass_kg: -1", "types.heavy.mass_kg", "allowed: greater than 0"),
        ("type: heavy,", "type: huge,", "robots[0].type", "carrier, heavy, runner"),
        ("soc: 0.5", "soc: 1.5", "robots[0].soc", "0 to 1"),
        ("id: amr-2", "id: amr_1", "robots[1].id", "same ROS namespace"),
        ("id: amr-2", "id: 2amr", "robots[1].id", "starting with a letter"),
        ("soc: 0.5", "parameters: [1]", "robots[0].parameters", "mapping of parameter names"),
        ("soc: 0.5", "parameters: {mqtt: here}", "robots[0].parameters.mqtt", "set it elsewhere"),
        ("soc: 0.5", "parameters: {a: {b: [1, x]}}", "robots[0].parameters.a.b", "a list of one kind of them"),
        ("soc: 0.5", "parameters: {a: null}", "robots[0].parameters.a", "a list of one kind of them"),
        ('start: "5;5;0.5"', "start: here", "robots[0].start", "x;y"),
    ],
)
def test_a_malformed_fleet_file_names_file_field_value_and_mend(tmp_path, old, new, field, mend):
    assert old in GOOD
    path = written(tmp_path, GOOD.replace(old, new))
    with pytest.raises(InputError) as caught:
        load_fleet(path)
    assert (caught.value.source, caught.value.field) == (str(path), field)
    assert mend in caught.value.mend
    assert str(path) in str(caught.value)


def test_a_type_without_the_newer_fields_of_wear_still_loads(tmp_path):
    heavy = load_fleet(written(tmp_path, GOOD)).robots[0].type
    fields = heavy.model_dump()
    for part, kept in (
        ("battery", "voltage_v capacity_wh max_charge_w charge_efficiency reserve_soc resume_soc target_soc"),
        ("wear", "tread_set_uc tread_life_m drive_set_uc drive_life_h"),
    ):
        prices = {"replacement_uc": fields[part].get("replacement_uc")} if part == "battery" else {}
        fields[part] = {name: fields[part][name] for name in kept.split()} | prices
    old = RobotType.model_validate(fields)
    assert (old.battery.chemistry, old.battery.cycle_life_efc, old.wear.brush_set_uc) == ("lfp", None, 0)


def test_parameters_of_a_robots_node_are_read_with_the_names_that_ros_has_for_them(tmp_path):
    nested = "{scale: false, base: {map: a, start: [1.0, 2.0]}}"
    given = f"{{max_tasks: 2, driver_settings: {nested}, driver_settings.base.type: vesc}}"
    first, second = load_fleet(written(tmp_path, GOOD.replace("soc: 0.5", f"parameters: {given}"))).robots
    assert first.parameters == {
        "max_tasks": 2, "driver_settings.scale": False, "driver_settings.base.map": "a",
        "driver_settings.base.start": [1.0, 2.0], "driver_settings.base.type": "vesc",
    }  # fmt: skip
    assert first.driver_settings == {"scale": False, "base": {"map": "a", "start": [1.0, 2.0], "type": "vesc"}}
    assert (second.parameters, second.driver_settings) == ({}, {})


def test_the_mechanism_of_a_zone_is_read_and_checked(tmp_path):
    fleet = "robots: [{id: r1, type: carrier}]\nmarket: {mechanism: %s}\n"
    assert load_fleet(written(tmp_path, fleet % "ssi")).terms.mechanism == "ssi"
    with pytest.raises(InputError, match="first_price") as caught:
        load_fleet(written(tmp_path, fleet % "dutch"))
    assert caught.value.field == "market.mechanism"


def test_fleets_without_robots_or_without_yaml_are_refused(tmp_path):
    for text, field in (("robots: []\n", "robots"), ("zone: a\n", "robots"), ("robots: [\n", "line 2"), ("- 1\n", "file")):
        with pytest.raises(InputError) as caught:
            load_fleet(written(tmp_path, text))
        assert caught.value.field == field
    with pytest.raises(InputError, match="No such file"):
        load_fleet(tmp_path / "none.yaml")


def test_an_order_file_is_read_exactly_in_any_order_of_columns(tmp_path):
    text = "\ufeffmax_price,id,pickup,dropoff,payload_kg,release_s,deadline_s\n12.000001,A.1,dock,3;4;1.5,2.5,0,60\n\n"
    (row,) = load_orders(written(tmp_path, text, "o.csv"))
    assert (row.id, row.pickup, row.dropoff, row.max_price_uc, row.line) == ("A.1", "dock", "3;4;1.5", 12_000_001, 2)
    assert (row.payload_kg, row.release_s, row.deadline_s) == (2.5, 0.0, 60.0)


def test_order_files_may_carry_priority_lateness_value_groups_and_order(tmp_path):
    text = (
        "id,pickup,dropoff,payload_kg,release_s,deadline_s,max_price,priority,lateness_per_h,value,after,group\n"
        "o1,a,b,1,0,60,5,3,2.5,40,,g\no2,a,b,1,0,60,5,,,,,g\no3,a,b,1,0,60,5,,,,o2,\n"
    )
    first, second, third = load_orders(written(tmp_path, text, "o.csv"))
    assert (first.priority, first.lateness_uc_per_h, first.value_uc) == (3, 2_500_000, 40_000_000)
    assert (second.priority, second.lateness_uc_per_h, second.value_uc, second.after) == (0, 0, 0, None)
    assert [(o.group, o.group_size) for o in (first, second, third)] == [("g", 2), ("g", 2), (None, 1)]
    assert third.after == "o2"


@pytest.mark.parametrize(
    ("more", "field", "mend"),
    [
        ("priority:10", "line 2, priority", "0 to 9"),
        ("priority:high", "line 2, priority", "0 to 9"),
        ("lateness_per_h:-1", "line 2, lateness_per_h", "at least 0"),
        ("value:1e9", "line 2, value", "at most 1000000"),
        ("after:o1", "line 2, after", "earlier line"),
        ("after:nix", "line 2, after", "earlier line"),
        ("group:a b", "line 2, group", "letters"),
        ("colour:red", "line 1", "perhaps priority"),
        ("id:o9", "line 1", "use the header"),
    ],
)
def test_a_malformed_added_column_names_line_field_and_mend(tmp_path, more, field, mend):
    name, value = more.split(":")
    text = f"{HEADER.strip()},{name}\no1,a,b,1,0,60,5,{value}\n"
    with pytest.raises(InputError) as caught:
        load_orders(written(tmp_path, text, "o.csv"))
    assert caught.value.field == field
    assert mend in caught.value.mend


@pytest.mark.parametrize(
    ("line", "field", "mend"),
    [
        ("o1,a,b,1,0,60", "line 2", "7 fields"),
        ("o1,a,b,1,0,60,5,9", "line 2", "7 fields"),
        ("o 1,a,b,1,0,60,5", "line 2, id", "letters"),
        ("o1,,b,1,0,60,5", "line 2, pickup", "name a place"),
        ("o1,a,b,heavy,0,60,5", "line 2, payload_kg", "0 to 100000"),
        ("o1,a,b,nan,0,60,5", "line 2, payload_kg", "0 to 100000"),
        ("o1,a,b,-1,0,60,5", "line 2, payload_kg", "0 to 100000"),
        ("o1,a,b,1,60,60,5", "line 2, deadline_s", "after release_s"),
        ("o1,a,b,1,0,inf,5", "line 2, deadline_s", "0 to 1e+07"),
        ("o1,a,b,1,0,60,0", "line 2, max_price", "more than 0"),
        ("o1,a,b,1,0,60,0.0000001", "line 2, max_price", "6 decimals"),
        ("o1,a,b,1,0,60,5\no1,a,b,1,0,60,5", "line 3, id", "line 2 has it"),
        ("", "file", "1 to 100000 orders"),
    ],
)
def test_a_malformed_order_file_names_line_field_and_mend(tmp_path, line, field, mend):
    path = written(tmp_path, f"{HEADER}{line}\n", "o.csv")
    with pytest.raises(InputError) as caught:
        load_orders(path)
    assert (caught.value.source, caught.value.field) == (str(path), field)
    assert mend in caught.value.mend


def test_a_wrong_header_and_a_wrong_encoding_are_refused(tmp_path):
    with pytest.raises(InputError, match="use the header id,pickup"):
        load_orders(written(tmp_path, "id,from,to\n1,a,b\n", "o.csv"))
    with pytest.raises(InputError, match="save the file as UTF-8"):
        load_orders(written(tmp_path, b"id\xff\n", "o.csv"))


def test_the_examples_of_the_documentation_are_valid(tmp_path):
    text = (Path(__file__).parents[2] / "docs/fleet_file.md").read_text()
    fleet, orders = (text.split(f"```{kind}\n")[1].split("```")[0] for kind in ("yaml", "csv"))
    assert [r.id for r in load_fleet(written(tmp_path, fleet)).robots] == ["amr-1", "amr-2"]
    assert [o.id for o in load_orders(written(tmp_path, orders, "o.csv"))] == ["o1", "o2"]
