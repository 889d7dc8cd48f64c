"""A market to try things in: two robots of two owners, two customers, and a clock that only moves when told."""

from fleet_market.contracts import MarketTerms
from fleet_market.errors import PlaceError
from fleet_market.ids import MessageId, OrderId
from fleet_market.ledger import account
from fleet_market.market import Command, Market, OpenMarket
from fleet_market.market.commands import SELF
from fleet_market.market.market import tick
from fleet_market.protocol.messages import (
    Announce,
    Ask,
    AskLine,
    Award,
    Call,
    Complete,
    OrderReply,
    Place,
    PostOrder,
    Presence,
    StepEvidence,
    WirePose,
)

S = 10**9
CREDIT = 10**6
A, B = WirePose(x=1.0, y=1.0), WirePose(x=9.0, y=1.0)


class TwoPlaces:
    """A floor with place a at (1, 1), b at (9, 1), and ``x=3.5`` at (3.5, 1)."""

    def resolve(self, text, *, source, field):
        if text.startswith("x="):
            return Place(x=float(text[2:]), y=1.0, name=text)
        if text not in ("a", "b"):
            raise PlaceError(source, field, text, "use a or b")
        return Place(x=1.0 if text == "a" else 9.0, y=1.0, name=text)


class Town:
    """A market with two robots of two owners, and a clock that only moves when told."""

    def __init__(self, terms=None, credit=1000, robots=(("r1", "acme"), ("r2", "bolt"))):
        self.market, self.now_ns, self.log, self.sends, self.count = Market(TwoPlaces()), 0, [], [], 0
        opened = OpenMarket(
            zone="main",
            epoch=1,
            seed="s",
            terms=terms or MarketTerms(),
            customers={"ann": credit * CREDIT, "eve": 5 * CREDIT},
        )
        self.give(SELF, opened)
        for robot, owner, *home in robots:
            self.give(robot, announce(owner, home=WirePose(x=home[0], y=1.0) if home else None))
            self.give(robot, Presence(status="online", zone="main"))

    def give(self, source, body, message_id=None, sid=0):
        """One input; returns what the market sends in answer."""
        command = Command(source, body, self.now_ns, None if message_id is None else MessageId(message_id), sid)
        self.log.append(command)
        out = self.market.handle(command)
        self.sends += out.sends
        return [send.body for send in out.sends]

    def wait(self, seconds):
        """Let time pass in steps of 0.1 s; returns everything sent meanwhile."""
        said = []
        for _ in range(round(seconds * 10)):
            self.now_ns += S // 10
            said += self.give(SELF, tick(self.now_ns).body)
        return said

    def post(self, order="o1", customer="ann", **more):
        fields = {"pickup": "a", "dropoff": "b", "payload_kg": 2.0, "deadline_s": 100.0, "max_price_uc": 10 * CREDIT} | more
        self.count += 1
        (reply,) = (
            b
            for b in self.give(customer, PostOrder(order=OrderId(order), **fields), f"m{self.count}")
            if isinstance(b, OrderReply)
        )
        return reply

    def order(self, order="o1"):
        return self.market.state.orders[OrderId(order)]

    def next_call(self, within=3.0):
        """The call that is open, or the next one."""
        for _ in range(round(within * 10) + 1):
            if (call := self.market.state.call) is not None:
                return next(s.body for s in self.sends if isinstance(s.body, Call) and s.body.call == call.id)
            self.wait(0.1)
        raise AssertionError(f"no call within {within} s")

    def trade(self, asks, wait=3.0):
        """Answer the next call, round after round, with ``{robot: price}`` for every lot; returns the awards."""
        self.next_call(wait)
        said = []
        while (call := self.market.state.call) is not None:
            answering = [robot for robot in asks if robot in call.waiting]
            for robot in answering:
                said += self.answer(robot, lambda _: asks[robot])  # noqa: B023 - called at once
            if not answering:
                said += self.wait(0.1)
        return [b for b in said if isinstance(b, Award)]

    def answer(self, robot, price_of, **more):
        """Have a robot that is asked answer with a price per order, or decline where there is None."""
        call = self.market.state.call
        prices = [price_of(order) for order in call.offered[robot]]
        asks = tuple(line(i, price, **more) for i, price in enumerate(prices) if price is not None)
        return self.give(robot, Ask(call=call.id, round=call.round, asks=asks))

    def deliver(self, award, robot, **more):
        steps = (
            StepEvidence(kind="pickup", pose=A, at_ns=self.now_ns, payload_before_kg=0.0, payload_kg=2.0),
            StepEvidence(kind="dropoff", pose=B, at_ns=self.now_ns, payload_before_kg=2.0, payload_kg=0.0),
        )
        return self.give(
            robot, Complete(contract=award.contract, energy_j=500.0, **({"steps": steps} | more)), f"c{self.now_ns}"
        )

    def money(self, kind, name):
        return self.market.ledger.balance(account(kind, name)).available_uc


def announce(owner, payload=10.0, home=None):
    return Announce(
        zone="main",
        owner=owner,
        robot_type="carrier",
        max_payload_kg=payload,
        max_speed_mps=1.0,
        battery_wh=480.0,
        home=home,
    )


def line(lot, price_uc, finish_ns=60 * S):
    return AskLine(lot=lot, ask_uc=price_uc, parts_uc=(price_uc, *(0,) * 8), energy_j=480.0, finish_ns=finish_ns)
