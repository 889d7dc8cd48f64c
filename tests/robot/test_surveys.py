"""Lengths that the robot's own planner finds go into the ask; without one the roadmap's stand."""

import math
from functools import cache
from pathlib import Path

import pytest

from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.adapters.map_files import load_map
from fleet_market.body import Pose
from fleet_market.ids import OrderId
from fleet_market.maps.surfaces import Surfaces
from fleet_market.protocol.messages import Lot, Place
from fleet_market.robot.bidding import Bidder
from fleet_market.robot.floor import lay_out
from fleet_market.robot.legs import MAX_SURVEYS
from fleet_market.robot.memory import Memory
from fleet_market.robot.queue import Errand, Queue
from fleet_market.robot.surveys import MAX_LOTS, wanted

LAUNCH = Path(__file__).parents[2] / "launch"


@cache
def floor():
    fleet = load_fleet(LAUNCH / "fleets/warehouse.yaml")
    return fleet, lay_out(fleet, load_map(LAUNCH / "maps/warehouse.yaml"), source="fleet")


@pytest.fixture
def bidder():
    fleet, laid = floor()
    robot = fleet.robots[0].type
    return Bidder(robot, laid.roadmap, laid.chargers, fleet.tariff, Memory(robot), Surfaces(fleet.surfaces))


HOME = next(iter(floor()[1].homes.values()))
PLACES = list(floor()[0].places.values())


def lot(name, pickup, dropoff):
    return Lot(order=OrderId(name), pickup=pickup, dropoff=dropoff, payload_kg=1.0, deadline_ns=10**15)


def ask_uc(bidder, pickup, dropoff):
    errand = Errand(OrderId("o"), pickup, dropoff, payload_kg=1.0, deadline_ns=10**15)
    return bidder.ask(errand, Queue(HOME, 0, 0.9)).ask_uc


def test_a_longer_way_makes_a_dearer_ask_and_no_survey_leaves_it(bidder):
    pickup, dropoff = PLACES[:2]
    plain = ask_uc(bidder, pickup, dropoff)
    ways = wanted(bidder.legs, HOME, [lot("o", pickup, dropoff)])
    assert [way.place for way in ways] == [pickup, dropoff]
    assert ask_uc(bidder, pickup, dropoff) == plain
    usual_m = bidder.legs.way(HOME, pickup).length_m
    bidder.legs.survey(ways[0].start, pickup, 2 * usual_m)
    assert bidder.legs.way(HOME, pickup).length_m == pytest.approx(2 * usual_m)
    assert ask_uc(bidder, pickup, dropoff) > plain
    bidder.legs.survey(ways[0].start, pickup, usual_m)
    assert ask_uc(bidder, pickup, dropoff) == plain


def test_a_survey_holds_near_its_start_only(bidder):
    place = PLACES[0]
    away = Pose(PLACES[1].x, PLACES[1].y)
    before_m = bidder.legs.way(away, place).length_m
    bidder.legs.survey(HOME, place, 2 * bidder.legs.way(HOME, place).length_m)
    assert bidder.legs.way(away, place).length_m == before_m


@pytest.mark.parametrize("factor", [0.0, -1.0, 0.4, 11.0, math.nan, math.inf])
def test_a_length_that_cannot_be_is_passed_over(bidder, factor):
    usual_m = bidder.legs.way(HOME, PLACES[0]).length_m
    bidder.legs.survey(HOME, PLACES[0], factor * usual_m)
    assert bidder.legs.way(HOME, PLACES[0]).length_m == usual_m


def test_surveys_are_few_and_bounded(bidder):
    lots = [lot(f"o{i}", PLACES[0], PLACES[1]) for i in range(MAX_LOTS + 5)]
    assert len(wanted(bidder.legs, HOME, lots)) == 2 * MAX_LOTS
    outside = lot("far", Place(x=-500.0, y=-500.0), PLACES[1])
    assert wanted(bidder.legs, HOME, [outside]) == []
    for i in range(MAX_SURVEYS + 10):
        place = Place(x=PLACES[0].x, y=PLACES[0].y, yaw=i * 0.01)
        bidder.legs.survey(HOME, place, 1.5 * bidder.legs.way(HOME, place).length_m)
    assert len(bidder.legs._surveys) == MAX_SURVEYS
