"""Roads through a wall with one door, as an oracle with a map judges ways."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from market_process import cli
from PIL import Image

from fleet_market.body import Pose
from fleet_market.daemons import oracle_roads
from fleet_market.daemons.oracle import Oracle, OracleConfig
from fleet_market.daemons.oracle_roads import Roads
from fleet_market.errors import UnreachableError
from fleet_market.ids import ContractId, RobotId
from fleet_market.maps.roadmap import leg
from fleet_market.oracle.plausibility import ROAD_STRETCH
from fleet_market.protocol.messages import Fix, Place, RecordLeg, TelemetryRecord
from fleet_market.protocol.telemetry import GENESIS

MAP = "image: hall.pgm\nresolution: 0.05\norigin: [0, 0, 0]\nnegate: 0\noccupied_thresh: 0.65\nfree_thresh: 0.196\n"
CLEARANCE_M = 0.4
WEST, EAST = (9.0, 2.0), (11.0, 2.0)
"""2 m apart, and about 29 m by road."""
S = 10**9


@pytest.fixture(scope="module")
def hall(tmp_path_factory):
    """20 m by 20 m; a wall at x = 10 m leaves a door in the north."""
    folder = tmp_path_factory.mktemp("hall")
    pixels = np.full((400, 400), 254, dtype=np.uint8)
    pixels[[0, -1], :] = pixels[:, [0, -1]] = 0
    pixels[80:, 198:202] = 0  # the first row of the picture is the north
    Image.fromarray(pixels).save(folder / "hall.pgm")
    (folder / "hall.yaml").write_text(MAP)
    return folder / "hall.yaml"


@pytest.fixture(scope="module")
def roads(hall):
    return Roads.of(hall, CLEARANCE_M)


def test_the_road_leads_through_the_door(roads):
    assert roads(WEST, EAST) == pytest.approx(29.0, abs=2.0)
    assert roads(EAST, WEST) == pytest.approx(roads(WEST, EAST), abs=1e-3)
    assert roads(WEST, WEST) == pytest.approx(0.0, abs=0.01)


def test_off_the_roadmap_no_distance_is_known(roads):
    assert math.isinf(roads(WEST, (10.0, 2.0)))
    assert math.isinf(roads((100.0, 2.0), WEST))


PLACES = st.tuples(st.floats(0.6, 19.4), st.floats(0.6, 19.4))


@given(PLACES, PLACES)
def test_no_way_that_a_robot_plans_is_shorter_than_the_road(roads, start, goal):
    try:
        planned = leg(roads._roadmap, Pose(*start, 0.0), Place(x=goal[0], y=goal[1]))
    except UnreachableError:
        return
    assert roads(start, goal) <= planned.length_m + 1e-3
    assert roads(start, goal) >= math.dist(start, goal) - 2 * 0.45 * 2


def test_what_is_remembered_is_bounded(hall, monkeypatch):
    monkeypatch.setattr(oracle_roads, "MAX_BYTES", 100_000)
    bounded = Roads.of(hall, CLEARANCE_M)
    most = max(1, 100_000 // (4 * len(bounded._roadmap)))
    for x in range(1, 9):
        bounded((float(x), 3.0), EAST if x % 2 else (float(x), 5.0))
    assert len(bounded._from) == most


def told(length_m, seconds):
    legs = (RecordLeg(length_m=length_m, turn_rad=3.0, halts=1.0, payload_kg=0.0, surface="floor"),)
    return TelemetryRecord(
        robot="r1", chain=1, seq=0, previous=GENESIS, contract=ContractId("c0"), dwell_s=0.0, executed_s=seconds, legs=legs,
        energy_j=None, fixes=(Fix(x=WEST[0], y=WEST[1], at_ns=0), Fix(x=EAST[0], y=EAST[1], at_ns=round(seconds * S))),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("length_m", "seconds", "with_map", "suspect"),
    [
        (2.5, 60.0, True, True),  # through the wall
        (2.5, 60.0, False, False),  # which nobody knows of without a map
        (30.0, 60.0, True, False),
        (30.0 / ROAD_STRETCH, 60.0, True, False),  # corners cut
        (30.0, 8.0, True, True),  # not in that time
        (60.0, 120.0, True, True),  # not that way
    ],
)
def test_a_way_through_a_wall_is_found_with_a_map_alone(hall, length_m, seconds, with_map, suspect):
    config = OracleConfig("127.0.0.1", 1, map=hall if with_map else None, clearance_m=CLEARANCE_M)
    oracle = Oracle(config, None)
    oracle._now_ns = 200 * S
    oracle._proofs.know(RobotId("r1"), "carrier")
    oracle._keep(told(length_m, seconds), "mkt/1/from/r1/main/telemetry")
    assert (oracle._proofs.suspects == {"r1"}) is suspect


def test_a_map_that_is_not_there_ends_the_start_with_its_name(tmp_path):
    told = cli("oracle", "--map", tmp_path / "none.yaml", code=2)
    assert "none.yaml: cannot be read: No such file or directory: name a file" in told
