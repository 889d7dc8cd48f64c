"""Files of Open-RMF, turned into ours."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from fleet_market.adapters.fleet_files import load_fleet, load_orders
from fleet_market.adapters.open_rmf import import_fleet, load_graph, write_imported
from fleet_market.adapters.open_rmf_tasks import Terms, import_tasks, write_orders
from fleet_market.cli.app import app
from fleet_market.errors import InputError

HERE = Path(__file__).parent / "open_rmf"
CONFIG, GRAPH, TASKS = HERE / "porters.yaml", HERE / "graph.yaml", HERE / "tasks.json"
MASSES = {"saline": 1.2, "linen": 2.5}


def changed(source, target, *path, value):
    """Write a file again with one value replaced, or removed where it is None."""
    data = yaml.safe_load(source.read_text())
    part = data
    for key in path[:-1]:
        part = part[key]
    if value is None:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    target.write_text(json.dumps(data) if target.suffix == ".json" else yaml.safe_dump(data))
    return target


def read_back(tmp_path, config=CONFIG, graph=GRAPH):
    imported = import_fleet(config, load_graph(graph))
    write_imported(imported, tmp_path / "fleet.yaml")
    return load_fleet(tmp_path / "fleet.yaml"), imported.notes


def test_a_configuration_becomes_a_fleet_file_with_the_same_robots(tmp_path):
    fleet, _ = read_back(tmp_path)
    assert [robot.id for robot in fleet.robots] == ["porter1", "porter_2"]
    kind = fleet.robots[0].type
    assert (kind.max_speed_mps, kind.max_accel_mps2, kind.max_yaw_rate_radps, kind.max_yaw_accel_radps2) == (
        0.6,
        0.4,
        0.8,
        1.5,
    )
    assert (kind.footprint_radius_m, kind.mass_kg, kind.hotel_w) == (0.28, 31.0, 18.0)
    battery = kind.battery
    assert (battery.voltage_v, battery.capacity_wh, battery.max_charge_w) == (24.0, 24.0 * 10.0, 24.0 * 6.0)
    assert (battery.reserve_soc, battery.target_soc) == (0.15, 0.9)
    assert battery.reserve_soc < battery.resume_soc < battery.target_soc


def test_waypoints_become_places_and_chargers_and_a_parking_spot_where_its_robot_starts(tmp_path):
    fleet, _ = read_back(tmp_path)
    assert {name: (p.x, p.y) for name, p in fleet.places.items()} == {"pharmacy": (3.0, -4.5), "ward_a": (6.25, -4.5)}
    assert [(c.x, c.y) for c in fleet.chargers] == [(1.0, -1.0), (9.0, -1.0)]
    assert (fleet.robots[0].start.x, fleet.robots[0].start.y) == (6.25, -7.5)
    assert fleet.robots[1].start is None


def test_what_has_no_counterpart_is_told_once_and_no_password_with_it(tmp_path):
    _, notes = read_back(tmp_path)
    told = [note.field for note in notes]
    for field in ("mechanical_system.friction_coefficient", "profile.vicinity", "task_capabilities", "tool_system"):
        assert told.count(f"rmf_fleet.{field}") == 1
    assert {"fleet_manager", "rmf_fleet.robots.Porter1", "levels.L1.lanes"} <= set(told)
    assert "not-for-reports" not in "\n".join(map(str, notes))


def test_a_building_map_is_measured_and_turned_upright(tmp_path):
    file = tmp_path / "ward.building.yaml"
    rows = [
        [0, 0, 0, ""],
        [200, 0, 0, ""],
        [100, 300, 0, "ward", {"is_charger": [4, False]}],
        [40, 80, 0, "dock", {"is_charger": [4, True]}],
    ]
    level = {"vertices": rows, "measurements": [[0, 1, {"distance": [3, 10.0]}]]}
    file.write_text(yaml.safe_dump({"coordinate_system": "reference_image", "levels": {"L1": level}}))
    graph = load_graph(file)
    assert graph.points[graph.names["ward"]] == pytest.approx((5.0, -15.0))
    assert graph.points[graph.names["dock"]] == pytest.approx((2.0, -4.0))
    assert graph.chargers == (3,)
    level["measurements"] = []
    file.write_text(yaml.safe_dump({"coordinate_system": "reference_image", "levels": {"L1": level}}))
    with pytest.raises(InputError, match=r"levels.L1.measurements was \[\]: measure a distance"):
        load_graph(file)


def test_deliveries_become_orders_and_other_tasks_are_told(tmp_path):
    orders = import_tasks([TASKS], load_graph(GRAPH), Terms(300.0, "12.5", MASSES))
    write_orders(orders, tmp_path / "orders.csv")
    urgent, linen = load_orders(tmp_path / "orders.csv")
    assert (urgent.pickup, urgent.dropoff) == ("pharmacy", "6.2500;-4.5000;1.5700")
    assert (urgent.release_s, urgent.deadline_s, urgent.priority) == (60.0, 360.0, 1)
    assert urgent.payload_kg == pytest.approx(3 * MASSES["saline"])
    assert (linen.pickup, linen.dropoff, linen.release_s) == ("6.2500;-4.5000", "pharmacy", 0.0)
    assert linen.payload_kg == pytest.approx(2 * MASSES["linen"])
    assert {order.max_price_uc for order in (urgent, linen)} == {12_500_000}
    told = "\n".join(map(str, orders.notes))
    assert "request 3: category: 'patrol' is not traded here" in told
    assert "request.description.pickup.handler" in told


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("rmf_fleet",), None, r"rmf_fleet was None: name the configuration file of a fleet adapter"),
        (("rmf_fleet", "name"), None, r"rmf_fleet.name was None: name the fleet"),
        (("rmf_fleet", "limits", "linear"), [0.5], r"rmf_fleet.limits.linear was \[0.5\]: use a list of 2 numbers"),
        (("rmf_fleet", "limits", "angular"), [0, 1], r"rmf_fleet.limits.angular\[0\] was 0: use a number of 0.001"),
        (("rmf_fleet", "battery_system", "voltage"), "12V", r"battery_system.voltage was '12V': use a number of"),
        (("rmf_fleet", "mechanical_system", "mass"), float("nan"), r"mechanical_system.mass was nan: use a number of"),
        (("rmf_fleet", "recharge_soc"), 0.1, r"recharge_soc was 0.1: use a number above recharge_threshold \(0.15\)"),
        (("rmf_fleet", "robots"), {}, r"rmf_fleet.robots was {}: name at least one robot"),
        (("rmf_fleet", "robots"), {"A": None, "a": None}, r"rmf_fleet.robots.a was 'a': A becomes the same id"),
        (("rmf_fleet", "robots"), {"9": None}, r"rmf_fleet.robots was '9': use 1 to 64 lower-case letters"),
        (
            ("rmf_fleet", "robots", "porter_2", "charger"),
            "moon",
            r"porter_2.charger was 'moon': use a waypoint of .*corner",
        ),
    ],
)
def test_a_wrong_configuration_is_refused_with_what_would_be_right(tmp_path, path, value, said):
    with pytest.raises(InputError, match=rf"wrong.yaml: .*{said}"):
        read_back(tmp_path, config=changed(CONFIG, tmp_path / "wrong.yaml", *path, value=value))


def test_the_older_form_of_a_robots_charger_is_read_too(tmp_path):
    robots = {"porter_2": {"rmf_config": {"charger": {"waypoint": "ward_a"}}}}
    fleet, _ = read_back(tmp_path, config=changed(CONFIG, tmp_path / "old.yaml", "rmf_fleet", "robots", value=robots))
    assert [(c.x, c.y) for c in fleet.chargers] == [(1.0, -1.0), (9.0, -1.0), (6.25, -4.5)]
    assert "ward_a" not in fleet.places


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ((0, "type"), "cancel_task_request", r"type was 'cancel_task_request': use one of dispatch_task_request"),
        ((1, "category"), None, r"request 2: category was None: use delivery"),
        ((0, "request", "priority", "value"), 7, r"request.priority.value was 7: use a number of 0 to 1"),
        ((0, "request", "description", "pickup", "place"), "moon", r"pickup.place was 'moon': use a waypoint of"),
        ((0, "request", "description", "pickup", "place"), 99, r"pickup.place was 99: use a waypoint of .*: 0 to 5"),
        ((0, "request", "description", "dropoff", "place"), "porter1_dock", r"was 'porter1_dock': a charger is kept free"),
        ((0, "request", "description", "pickup", "payload"), None, r"pickup.payload was None: name what is carried"),
        (
            (0, "request", "description", "pickup", "payload", 0, "sku"),
            "plasma",
            r"was 'plasma': give the mass .*plasma=KG",
        ),
        ((0, "request", "unix_millis_earliest_start_time"), 1.5, r"start_time was 1.5: use a whole number of milliseconds"),
    ],
)
def test_a_wrong_task_is_refused_with_what_would_be_right(tmp_path, path, value, said):
    wrong = changed(TASKS, tmp_path / "wrong.json", *path, value=value)
    with pytest.raises(InputError, match=said):
        import_tasks([wrong], load_graph(GRAPH), Terms(sku_kg=MASSES))


def test_tasks_of_which_none_is_a_delivery_are_refused(tmp_path):
    file = tmp_path / "patrols.json"
    file.write_text('{"category": "patrol", "description": {}}')
    with pytest.raises(InputError, match=r"no delivery .*'patrol' is not traded here"):
        import_tasks([file])


def test_broken_json_names_its_line(tmp_path):
    file = tmp_path / "broken.json"
    file.write_text('[\n{"category": }]')
    with pytest.raises(InputError, match=r"broken.json: line 2 was"):
        import_tasks([file])


@settings(deadline=None)
@given(
    volts=st.floats(1, 1000),
    ah=st.floats(0.1, 1000),
    socs=st.tuples(st.floats(0, 0.9), st.floats(0.01, 1)).filter(lambda s: s[0] + 0.001 < s[1]),
    speed=st.floats(0.01, 10),
)
def test_every_battery_comes_back_as_it_was(tmp_path_factory, volts, ah, socs, speed):
    folder = tmp_path_factory.mktemp("any")
    battery = {"voltage": volts, "capacity": ah, "charging_current": 1.0}
    fleet = {"name": "any", "limits": {"linear": [speed, 1.0], "angular": [1.0, 1.0]}, "battery_system": battery}
    fleet |= {"recharge_threshold": socs[0], "recharge_soc": socs[1], "robots": {"r": {}}}
    (folder / "config.yaml").write_text(yaml.safe_dump({"rmf_fleet": fleet}))
    write_imported(import_fleet(folder / "config.yaml"), folder / "fleet.yaml")
    kind = load_fleet(folder / "fleet.yaml").robots[0].type
    assert kind.max_speed_mps == speed
    assert (kind.battery.voltage_v, kind.battery.capacity_wh) == (volts, volts * ah)
    assert (kind.battery.reserve_soc, kind.battery.target_soc) == socs


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 50), st.integers(0, 1)), min_size=1, max_size=20))
def test_every_delivery_comes_back_as_it_was(tmp_path_factory, deliveries):
    folder = tmp_path_factory.mktemp("any")

    def request(start_ms, quantity, priority):
        payload = {"sku": "box", "quantity": quantity}
        stops = {"pickup": {"place": "a", "payload": payload}, "dropoff": {"place": "b", "payload": payload}}
        importance = {"type": "binary", "value": priority}
        return {
            "category": "delivery",
            "description": stops,
            "priority": importance,
            "unix_millis_earliest_start_time": start_ms,
        }

    (folder / "tasks.json").write_text(json.dumps([request(*delivery) for delivery in deliveries]))
    write_orders(import_tasks([folder / "tasks.json"], terms=Terms(sku_kg={"box": 0.5})), folder / "orders.csv")
    first_ms = min(start_ms for start_ms, _, _ in deliveries)
    back = [(r.release_s, r.payload_kg, r.priority) for r in load_orders(folder / "orders.csv")]
    assert back == [((start_ms - first_ms) / 1000, 0.5 * quantity, priority) for start_ms, quantity, priority in deliveries]


def test_the_command_writes_both_files_and_not_over_others(tmp_path):
    arguments = ["import", "open-rmf", "--config", str(CONFIG), "--graph", str(GRAPH), "--tasks", str(TASKS)]
    arguments += ["--sku-kg", "saline=1.2", "--sku-kg", "linen=2.5", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert "note: " in done.stdout
    assert len(load_fleet(tmp_path / "fleet.yaml").robots) == len(load_orders(tmp_path / "orders.csv")) == 2
    assert isinstance(CliRunner().invoke(app, arguments).exception, InputError)
    assert CliRunner().invoke(app, [*arguments, "--force"]).exit_code == 0
