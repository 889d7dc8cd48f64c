"""Robots on a road with honest schedules, and a market that lets them sell contracts on."""

from itertools import permutations

from market_town import CREDIT, S, Town, announce

from fleet_market.contracts import MarketTerms
from fleet_market.ids import RobotId
from fleet_market.protocol import topics
from fleet_market.protocol.messages import (
    Accept,
    Ask,
    AskLine,
    Award,
    Call,
    Cancel,
    Complete,
    Keep,
    Phase,
    Prepare,
    Prepared,
    Presence,
    Progress,
    Reauction,
    Receipt,
    ResaleAsk,
    StepEvidence,
    Traded,
    WirePose,
)

UC_PER_M = CREDIT // 10
TERMS = MarketTerms(resale_gain_uc=1, resale_every_s=0.2)


class Driver:
    """One robot: a place on the road and the contracts that it holds; one of them may be under way."""

    def __init__(self, name, at):
        self.name, self.at = name, at
        self.held, self.frozen, self.begun = {}, set(), None
        self.lots = {}
        self.lie, self.mute, self.refuses, self.declines = 1.0, False, False, False

    def cost_uc(self, orders):
        """What the cheapest round through some orders costs, each carried from pickup to dropoff in one go."""
        ways = [
            sum(abs(b - a) for a, b in zip((self.at, *stops), stops, strict=False))
            for order in permutations(orders)
            for stops in [[x for o in order for x in (o.pickup.x, o.dropoff.x)]]
        ]
        return round(min(ways) * UC_PER_M)

    def line(self, number, more_uc, finish_ns):
        ask = max(0, more_uc)
        return AskLine(lot=number, ask_uc=ask, parts_uc=(ask, *(0,) * 8), energy_j=10.0, finish_ns=finish_ns)


class ResaleTown(Town):
    """A town whose robots answer everything by themselves, from what the market sends them."""

    def __init__(self, robots, terms=None, **more):
        super().__init__(terms or TERMS, robots=(), **more)
        self.drivers = {name: Driver(name, at) for name, _, at in robots}
        self.owner = {name: owner for name, owner, _ in robots}
        self.read, self.numbers, self.lost = 0, 0, set()
        for name, owner, at in robots:
            self.give(name, announce(owner, home=WirePose(x=at, y=1.0)))
            self.give(name, Presence(status="online", zone="main"))

    def say(self, name, body):
        self.numbers += 1
        return self.give(name, body, f"{name}-{self.numbers}")

    def settle(self):
        """Let robots answer until there is nothing left to answer."""
        while self.read < len(self.sends):
            send = self.sends[self.read]
            self.read += 1
            address = topics.parse(send.topic)
            if address.direction == "to" and address.name in self.drivers:
                self.hear(self.drivers[address.name], send)
            elif isinstance(send.body, Call):
                for driver in self.drivers.values():
                    self.hear(driver, send)

    def wait(self, seconds):
        said = []
        for _ in range(round(seconds * 10)):
            said += super().wait(0.1)
            for name, driver in self.drivers.items():
                if not driver.mute:
                    for contract in driver.held:
                        self.sign_of_life(name, contract)
            self.settle()
        return said

    def sign_of_life(self, name, contract):
        driver = self.drivers[name]
        phase = Phase.TO_PICKUP if driver.begun == contract else Phase.QUEUED
        self.give(name, Progress(contract=contract, phase=phase, pose=WirePose(x=driver.at, y=1.0), aboard=False))

    def hear(self, driver, send):
        body = send.body
        if driver.mute or type(body) in self.lost:
            return
        match body:
            case Call():
                self.bid(driver, body)
            case Reauction():
                self.resell(driver, body)
            case Prepare():
                agreed = not driver.refuses and all(c in driver.held and c != driver.begun for c in body.contracts)
                driver.frozen |= set(body.contracts) if agreed else set()
                self.say(driver.name, Prepared(call=body.call, contracts=body.contracts, agreed=agreed))
            case Keep():
                driver.frozen -= set(body.contracts)
                self.say(driver.name, Receipt(of=send.id))
            case Cancel():
                driver.held.pop(body.contract, None)
                driver.frozen.discard(body.contract)
                driver.begun = None if driver.begun == body.contract else driver.begun
                self.say(driver.name, Receipt(of=send.id))
            case Award() if not driver.declines:
                driver.held[body.contract] = body
                self.say(driver.name, Accept(contract=body.contract))

    def bid(self, driver, call):
        self.know(driver, call.lots)
        mine = [*driver.held.values(), *(driver.lots[o] for o in call.won)]
        base = driver.cost_uc(mine)
        lines = tuple(
            driver.line(i, round(driver.lie * (driver.cost_uc([*mine, lot]) - base)), self.now_ns + 60 * S)
            for i, lot in enumerate(call.lots)
        )
        self.give(driver.name, Ask(call=call.call, round=call.round, asks=lines))

    def resell(self, driver, call):
        self.know(driver, call.lots)
        rest = [award for contract, award in driver.held.items() if contract not in call.own]
        saving = driver.cost_uc(driver.held.values()) - driver.cost_uc(rest)
        willing = driver.begun not in call.own and all(c in driver.held for c in call.own)
        mine = [*rest, *(driver.lots[o] for o in call.won)]
        base = driver.cost_uc(mine)
        lines = tuple(
            driver.line(i, driver.cost_uc([*mine, lot]) - base, self.now_ns + 60 * S) for i, lot in enumerate(call.lots)
        )
        saving = round(saving * driver.lie) if call.own and willing else None
        self.give(driver.name, ResaleAsk(call=call.call, round=call.round, saving_uc=saving, asks=lines))

    def know(self, driver, lots):
        driver.lots.update((lot.order, lot) for lot in lots)

    # --- what tests do ---

    def deal_out(self, *orders):
        """Have orders ``(id, from, to, robot)`` awarded to these robots, one batch each; nothing is sold on meanwhile."""
        for order, start, end, robot, *more in orders:
            fields = {"max_price_uc": 100 * CREDIT, "deadline_s": 10_000.0} | (more[0] if more else {})
            self.post(order, pickup=f"x={start}", dropoff=f"x={end}", **fields)
            bidding = {name: name == robot for name in self.drivers}
            self.only(bidding)
            for _ in range(40):
                if self.order(order).robot is not None:
                    break
                super().wait(0.1)
                self.settle()
            self.only(dict.fromkeys(self.drivers, True))
            assert self.order(order).robot == robot, (order, self.order(order))

    def only(self, online):
        for name, there in online.items():
            if self.market.state.robots[RobotId(name)].online != there:
                self.give(name, Presence(status="online" if there else "offline", zone="main"))

    def begin(self, robot, order):
        driver = self.drivers[robot]
        driver.begun = self.order(order).contract
        self.sign_of_life(robot, driver.begun)

    def finish(self, order, **more):
        """The robot that has an order does it."""
        name, contract = self.order(order).robot, self.order(order).contract
        o, driver = self.order(order), self.drivers[self.order(order).robot]
        steps = tuple(
            StepEvidence(kind=kind, pose=WirePose(x=place.x, y=1.0), at_ns=self.now_ns)
            for kind, place in (("pickup", o.pickup), ("dropoff", o.dropoff))
        )
        said = self.say(name, Complete(contract=contract, energy_j=10.0, **({"steps": steps} | more)))
        driver.held.pop(contract, None)
        driver.begun = None
        driver.at = o.dropoff.x
        self.settle()
        return said

    def records(self):
        return [s.body.record for s in self.sends if isinstance(s.body, Traded)]

    def trades(self):
        return [record for record in self.records() if record.moves]

    def total_cost_uc(self):
        return sum(driver.cost_uc(driver.held.values()) for driver in self.drivers.values())
