"""Physics is in the loop: what a floor does to a robot decides who gets the next lot."""

import math

import pytest

from fleet_market.auction import LotOffer, SealedAsk, clear
from fleet_market.ids import OrderId, OwnerId, RobotId
from fleet_market.pricing import PlanLeg, Tariff, TaskPlan
from fleet_market.robot.memory import Memory
from fleet_market_sim import Region, Surface, SurfaceMap, Truth
from fleet_market_sim.bots import LEAN
from fleet_market_sim.experiment import ROBOT, Track

TARIFF = Tariff(25_000_000)
TASKS, LENGTH_M, PAYLOAD_KG, SPEED_MPS = 6, 7.0, 10.0, 1.0
BUDGET_UC = 10**9
EVERYWHERE = (-1e3, -1e3, 1e3, 1e3)


def plan(surface):
    legs = [PlanLeg(LENGTH_M, math.pi, 1, PAYLOAD_KG, speed_mps=SPEED_MPS, surface=surface) for _ in range(2)]
    return TaskPlan(tuple(legs))


class Learner:
    """A robot that works on one way and learns what its tasks really cost."""

    def __init__(self, name, surface, truth):
        self.name, self.surface, self.truth = RobotId(name), surface, truth
        self.memory = Memory(LEAN.sheet)

    def work(self, rolling):
        floor = SurfaceMap([Region(*EVERYWHERE, Surface(self.surface, rolling=rolling))])
        with Track(LEAN.true, self.truth, surfaces=floor) as track:
            track.load(PAYLOAD_KG)
            for _ in range(TASKS):
                begun_j, begun_s = track.energy_j, track.now_s
                for _ in range(2):
                    track.turn(math.pi)
                    track.straight(LENGTH_M, SPEED_MPS)
                assert track.world.state(ROBOT).surface == self.surface
                took_s = track.now_s - begun_s
                self.memory.settled(
                    plan(self.surface),
                    self.memory.quote(plan(self.surface), TARIFF),
                    measured_j=track.energy_j - begun_j,
                    executed_s=took_s,
                    elapsed_s=took_s,
                )

    def ask(self):
        return SealedAsk(
            self.name, OwnerId(self.name), OrderId("lot"), self.memory.quote(plan(self.surface), TARIFF).ask_uc
        )


def award(*robots):
    lots = [LotOffer(OrderId("lot"), BUDGET_UC)]
    (winner,) = clear(lots, [robot.ask() for robot in robots], seed="s").awards
    return winner.robot


@pytest.mark.parametrize(("after", "winner"), [(1.0, "a"), (1.6, "b")])
def test_a_floor_that_gets_rougher_gives_the_lot_to_the_robot_on_the_other_way(after, winner):
    a, b = Learner("a", "hall", Truth()), Learner("b", "yard", Truth(rolling_resistance=1.2))
    a.work(rolling=1.0)
    b.work(rolling=1.0)
    assert award(a, b) == "a"
    a.work(rolling=after)
    b.work(rolling=1.0)
    assert award(a, b) == winner
