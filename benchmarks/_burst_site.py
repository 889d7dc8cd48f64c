"""What the burst benchmark trades on: halls side by side, each the warehouse of launch/, with ten robots in each."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from benchmarks._appending import AppendingBidder, Jobs
from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.adapters.map_files import load_map
from fleet_market.body import Battery, Link, Pose, RobotType, Telemetry
from fleet_market.contracts import MarketTerms
from fleet_market.errors import PlaceError
from fleet_market.ids import CustomerId, MessageId, OrderId, OwnerId, RobotId, ZoneId
from fleet_market.maps.surfaces import Surfaces
from fleet_market.protocol.messages import (
    Announce,
    AnyBody,
    Ask,
    Award,
    Call,
    Lot,
    Place,
    Position,
    PostOrder,
    Presence,
    RouteRequest,
    WirePose,
)
from fleet_market.robot.agent import Agent, AgentConfig
from fleet_market.robot.bidding import Bidder
from fleet_market.robot.effects import Say
from fleet_market.robot.fleet import Fleet
from fleet_market.robot.floor import Floor, lay_out
from fleet_market.robot.memory import Memory
from fleet_market.robot.queue import Errand, Queue

LAUNCH = Path(__file__).parents[1] / "launch"
ZONE, CREDIT_UC = ZoneId("main"), 10**6
ROBOTS_PER_HALL, MAX_TASKS, SOC = 10, 20, 0.9
"""Ten orders per robot come in one burst: robots that may hold three, the default, could not take them."""
HALL_M = (26.0, 18.0)
"""Spacing of the halls, a metre more than one measures: no door leads from one to the next."""
SPREAD_S = 1.0
"""In this time all orders are posted."""
PAYLOAD_KG, DEADLINE_S, MAX_PRICE_UC = 2.0, 3600.0, 30 * CREDIT_UC
CUSTOMERS_PER_ORDERS = 50
"""Orders per customer: one customer alone may not send so many messages in a second."""
PLACE_DIGITS = 6
"""Places are rounded to the micrometre, so that there and back is the same place."""
PRICED, DEADLINE_NS = 5, 10**13
"""How often an answer is priced before the time that it takes counts, and for what deadline."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large a burst is."""

    orders: int
    robots: int

    def __str__(self) -> str:
        return f"({self.orders}, {self.robots})"


class Site:
    """The halls, and who trades in them.

    Parameters
    ----------
    size : Size
    seed : int
        Draws the orders.
    """

    def __init__(self, size: Size, seed: int) -> None:
        self.size = size
        self.fleet, self.floor = _hall()
        self.halls = -(-size.robots // ROBOTS_PER_HALL)
        self._columns = max(1, round(self.halls**0.5))
        customers = -(-size.orders // CUSTOMERS_PER_ORDERS)
        self.customers = {CustomerId(f"customer-{i}"): 10**6 * CREDIT_UC for i in range(customers)}
        self.terms = MarketTerms()
        self._local: dict[tuple[OrderId, int, tuple[float, float]], Lot] = {}
        self._jobs: defaultdict[str, Jobs] = defaultdict(dict)
        self._rng = random.Random(seed)
        self.orders = [self._order(n) for n in range(size.orders)]

    def _order(self, number: int) -> tuple[float, CustomerId, PostOrder]:
        """Return when an order is posted, by whom, and the order: goods come to a shelf, or go from a shelf."""
        rng, names = self._rng, sorted(self.fleet.places)
        hall, shelf = rng.randrange(self.halls), rng.choice([n for n in names if n.startswith("shelf")])
        inward = rng.random() < 0.5
        dock = rng.choice([n for n in names if n.startswith("receiving" if inward else "shipping")])
        pickup, dropoff = (dock, shelf) if inward else (shelf, dock)
        order = PostOrder(
            order=OrderId(f"order-{number}"),
            pickup=f"{hall}:{pickup}",
            dropoff=f"{hall}:{dropoff}",
            payload_kg=PAYLOAD_KG,
            deadline_s=DEADLINE_S,
            max_price_uc=MAX_PRICE_UC,
        )
        return SPREAD_S * number / self.size.orders, CustomerId(f"customer-{number // CUSTOMERS_PER_ORDERS}"), order

    def local(self, lot: Lot, corner: tuple[float, float]) -> Lot:
        """Return a lot as the robots of the hall at `corner` have it on their map."""
        key = (lot.order, lot.deadline_ns, corner)
        if key not in self._local:
            back = (-corner[0], -corner[1])
            self._local[key] = lot.model_copy(
                update={"pickup": _moved(lot.pickup, back), "dropoff": _moved(lot.dropoff, back)}
            )
        return self._local[key]

    def corner(self, hall: int) -> tuple[float, float]:
        """Return where a hall begins, metres."""
        row, column = divmod(hall, self._columns)
        return column * HALL_M[0], row * HALL_M[1]

    def resolve(self, text: str, *, source: str, field: str) -> Place:
        """Return the place ``HALL:NAME``; implements `fleet_market.market.PlaceBook`."""
        hall, _, name = text.partition(":")
        if not hall.isdigit() or not int(hall) < self.halls:
            raise PlaceError(source, field, text, f"use HALL:NAME with a hall from 0 to {self.halls - 1}")
        return _moved(self.floor.places.resolve(name, source=source, field=field), self.corner(int(hall)))

    def robot_type(self, number: int) -> RobotType:
        """Return the type of a robot."""
        return self.fleet.robots[number % ROBOTS_PER_HALL].type

    def home(self, number: int) -> Pose:
        """Return where in its hall a robot parks."""
        return self.floor.homes[self.fleet.robots[number % ROBOTS_PER_HALL].id]

    def agent_config(self, number: int) -> AgentConfig:
        """Return what the agent of a robot knows."""
        return AgentConfig(
            robot=robot_id(number),
            type=self.robot_type(number),
            home=self.home(number),
            chargers=self.floor.chargers,
            tariff=self.fleet.tariff,
            roadmap=self.floor.roadmap,
            session=1,
            surfaces=Surfaces(self.fleet.surfaces),
        )

    def jobs_of(self, config: AgentConfig) -> Jobs:
        """Return what the robots of a type have worked out so far."""
        return self._jobs[config.type.name]

    def announce(self, number: int) -> Announce:
        """Return what a robot says of itself."""
        kind, home, (x, y) = self.robot_type(number), self.home(number), self.corner(number // ROBOTS_PER_HALL)
        return Announce(
            zone=ZONE,
            owner=OwnerId(f"owner-{number % max(3, self.halls)}"),
            robot_type=kind.name,
            max_payload_kg=kind.max_payload_kg,
            max_speed_mps=kind.max_speed_mps,
            battery_wh=kind.battery.capacity_wh,
            home=WirePose.of(Pose(home.x + x, home.y + y, home.yaw)),
        )

    def present(self) -> Presence:
        """Return what a robot says when it comes."""
        return Presence(status="online", zone=ZONE)


def robot_id(number: int) -> RobotId:
    """Return the name of a robot."""
    return RobotId(f"robot-{number}")


class SiteRobot:
    """A robot that stands where it parks: its agent is the product's own, what it would drive is left out.

    It asks, accepts, and gives signs of life, as `fleet_market.robot.agent` does; routes and positions are not the
    auctioneer's business and are left out. A thousand robots have a thousand computers, here they have one: so it prices by
    `AppendingBidder`, and what one robot of its type has worked out in one hall holds in all of them. The time that it
    would have taken, `ask_cost_s`, is waited for.
    """

    def __init__(self, site: Site, number: int) -> None:
        self.id = robot_id(number)
        self._site = site
        self.asks = 0
        """Lots that it has priced."""
        self._corner, self._home = site.corner(number // ROBOTS_PER_HALL), site.home(number)
        config = site.agent_config(number)
        self._agent = Agent(config, bidder=AppendingBidder(config, site.jobs_of(config)))
        self._seq = 0

    def sense(self, now_ns: int) -> list[Say]:
        """Have the agent look at its body; return what it says."""
        self._seq += 1
        battery = Battery(soc=SOC, energy_out_j=0.0)
        return self._said(self._agent.sense(Telemetry(self._seq, now_ns, Link.UP, self._home, battery=battery), 0, now_ns))

    def hear(self, message: MessageId, body: AnyBody, now_ns: int) -> list[Say]:
        """Have the agent hear a message; return what it says."""
        if isinstance(body, Call):
            self.asks += len(body.lots)
            body = body.model_copy(update={"lots": tuple(self._site.local(lot, self._corner) for lot in body.lots)})
        elif isinstance(body, Award):
            back = (-self._corner[0], -self._corner[1])
            places = {"pickup": _moved(body.pickup, back), "dropoff": _moved(body.dropoff, back)}
            body = body.model_copy(update=places)
        return self._said(self._agent.hear(message, body, now_ns))

    def _said(self, effects: Sequence[object]) -> list[Say]:
        says = [e for e in effects if isinstance(e, Say) and not isinstance(e.body, RouteRequest | Position)]
        return [Say(say.kind, self._outside(say.body), say.id) for say in says]

    def _outside(self, body: AnyBody) -> AnyBody:
        if not isinstance(body, Ask) or body.at is None:
            return body
        x, y = self._corner
        return body.model_copy(update={"at": body.at.model_copy(update={"x": body.at.x + x, "y": body.at.y + y})})


def ask_cost_s(site: Site) -> float:
    """Return the CPU seconds of one ask of a robot that prices by itself, half of its share of the burst in its queue."""
    config = site.agent_config(0)
    bidder = Bidder(config.type, config.roadmap, config.chargers, config.tariff, Memory(config.type), config.surfaces)
    errands = [_example(site, order) for _, _, order in site.orders]
    half = site.size.orders // site.size.robots // 2
    queue = Queue(config.home, 0, SOC)
    for errand in errands[:half]:
        queue = bidder.taken(errand, queue)
    lots = errands[half : half + site.terms.lots_per_robot]
    for _ in range(PRICED):
        begun = time.process_time()  # the first times teach it the distances
        bidder.asks(lots, queue)
    return (time.process_time() - begun) / len(lots)


def _example(site: Site, order: PostOrder) -> Errand:
    """Return an order as if its hall were the first."""
    here = [f"0:{text.partition(':')[2]}" for text in (order.pickup, order.dropoff)]
    pickup, dropoff = (site.resolve(text, source="example", field="place") for text in here)
    return Errand(order.order, pickup, dropoff, PAYLOAD_KG, DEADLINE_NS)


def _hall() -> tuple[Fleet, Floor]:
    """Return the fleet of one hall: the places of the warehouse, robots of both types in turn."""
    base = yaml.safe_load((LAUNCH / "fleets/warehouse.yaml").read_text())
    types = {"carrier": {"max_tasks": MAX_TASKS}, "runner": {"max_tasks": MAX_TASKS}}
    robots = [
        {"id": f"r{n}", "type": ("carrier", "runner")[n % 2], "owner": "acme", "start": "auto", "soc": SOC}
        for n in range(ROBOTS_PER_HALL)
    ]
    base |= {"map": str(LAUNCH / "maps/warehouse.yaml"), "robots": robots, "types": types}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "fleet.yaml"
        path.write_text(yaml.safe_dump(base))
        fleet = load_fleet(path)
    if fleet.map is None:
        raise TypeError("the fleet of a hall has a map")
    return fleet, lay_out(fleet, load_map(fleet.map), source="a hall of the site")


def _moved(place: Place, by: tuple[float, float]) -> Place:
    x, y = round(place.x + by[0], PLACE_DIGITS), round(place.y + by[1], PLACE_DIGITS)
    return place.model_copy(update={"x": x, "y": y})
