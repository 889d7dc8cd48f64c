"""A bidder that prices by rule of thumb: half of a simulation's time goes into prices, and no invariant rests on them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fleet_market.body import RobotType
from fleet_market.ids import OrderId
from fleet_market.maps.roadmap import Roadmap
from fleet_market.maps.surfaces import Surfaces
from fleet_market.pricing import Tariff
from fleet_market.protocol.messages import ASK_PARTS
from fleet_market.robot.bidding import Bidder, Offer, Refusal
from fleet_market.robot.memory import Memory
from fleet_market.robot.pricing import Drive, Halt
from fleet_market.robot.queue import Errand, Queue
from fleet_market.testing.simulation import site
from fleet_market.testing.simulation.bodies import SPEED_MPS

PER_METRE_UC = 200_000
ENERGY_J_PER_M, ENERGY_SD_SHARE = 40.0, 0.2


class ThumbBidder(Bidder):
    """Asks so much for each metre as the crow flies, and does things in the order in which they come.

    Parameters
    ----------
    robot : RobotType
    roadmap : Roadmap
    tariff : Tariff
    memory : Memory
    """

    def __init__(self, robot: RobotType, roadmap: Roadmap, tariff: Tariff, memory: Memory) -> None:
        super().__init__(robot, roadmap, site.CHARGERS, tariff, memory, Surfaces())
        self._robot_type = robot

    def drive(self, queue: Queue) -> Drive:
        """Return the queue without charging stops."""
        return Drive(queue, tuple(Halt(queue.place(visit), visit.order, visit.pickup) for visit in queue.visits))

    def asks(self, lots: Sequence[Errand], given: Queue, without: Collection[OrderId] = ()) -> list[Offer | Refusal]:
        """Return what the robot asks for each lot at the end of its queue."""
        queue = given.without(without)
        return [self._unfit(lot, queue) or self._offer(lot, queue) for lot in lots]

    def taken(self, lot: Errand, queue: Queue) -> Queue:
        """Return the queue with a lot at its end."""
        return queue.appended(lot)

    def _offer(self, lot: Errand, queue: Queue) -> Offer:
        grown = queue.appended(lot)
        x, y, before_m, length_m = queue.pose.x, queue.pose.y, 0.0, 0.0
        for number, visit in enumerate(grown.visits):
            place = grown.place(visit)
            length_m += max(abs(place.x - x), abs(place.y - y))
            x, y = place.x, place.y
            if number == len(queue.visits) - 1:
                before_m = length_m
        more_m = length_m - before_m
        ask_uc = 1 + round(PER_METRE_UC * more_m)
        ends_s = length_m / SPEED_MPS + len(grown.visits) * self._robot_type.handling_s
        return Offer(
            queue=grown,
            ask_uc=ask_uc,
            parts_uc=(ask_uc, *(0 for _ in ASK_PARTS[1:])),
            energy_j=ENERGY_J_PER_M * more_m,
            energy_sd_j=ENERGY_SD_SHARE * ENERGY_J_PER_M * more_m,
            finish_ns=queue.now_ns + round(ends_s * 1e9),
        )
