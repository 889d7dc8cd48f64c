"""The market of one zone: ``handle(command) -> outcome``, deterministic, without clock, chance or I/O."""

from __future__ import annotations

from fleet_market.errors import ProtocolError
from fleet_market.ids import RobotId, TransferId, derive
from fleet_market.ledger import AccountKind, Ledger, Transfer, TransferKind, account
from fleet_market.market.advice import Advice
from fleet_market.market.batch import Batches
from fleet_market.market.commands import SELF, Checkpoint, Command, Halt, OpenMarket, Pace
from fleet_market.market.desk import Desk
from fleet_market.market.execution import Execution, is_execution
from fleet_market.market.halting import set_halted
from fleet_market.market.lookups import LoggedPlaces, PlaceBook
from fleet_market.market.openings import Openings
from fleet_market.market.outcome import Outcome, Send
from fleet_market.market.release import release_orders
from fleet_market.market.resales import Resales
from fleet_market.market.snapshot import form, read_snapshot, write_snapshot
from fleet_market.market.state import WORLD, RobotRecord, State
from fleet_market.protocol import topics
from fleet_market.protocol.messages import (
    Announce,
    Ask,
    Body,
    CancelOrder,
    ClockTick,
    FairAnswer,
    FairRequest,
    LeafOpening,
    Offer,
    OpenRequest,
    OracleTerms,
    Position,
    PostOrder,
    Prepared,
    Presence,
    QuoteRequest,
    Receipt,
    ResaleAsk,
    StatusRequest,
    TelemetryRecord,
    WhyRequest,
)
from fleet_market.units import ns

MAX_ROBOTS = 10_000
_CUSTOMER_REQUESTS = (PostOrder, QuoteRequest, CancelOrder, WhyRequest, StatusRequest)


class Market:
    """One zone's market.

    The same commands in the same order give the same outcomes, to the byte: that is what recovery and audits rest on.

    Parameters
    ----------
    places : PlaceBook
        Finds and checks the places that customers name.
    """

    def __init__(self, places: PlaceBook) -> None:
        self._places = LoggedPlaces(places)
        self._begin(State())

    def _begin(self, state: State) -> None:
        self.state = state
        self._batches, self._resales = Batches(state), Resales(state)
        self._desk = Desk(state, self._places)
        self._execution, self._advice = Execution(state), Advice(state, self._places)
        self._openings = Openings(state)

    @property
    def ledger(self) -> Ledger:
        """The books."""
        return self.state.ledger

    def restore(self, snapshot: bytes) -> None:
        """Go to where the market stood of which `snapshot` was taken; raises `SnapshotError` if it cannot be read."""
        self._begin(read_snapshot(snapshot))

    def reset(self) -> None:
        """Begin anew, as if nothing had ever been put in."""
        self._begin(State())

    def handle(self, command: Command) -> Outcome:
        """Take one input and return what follows from it.

        Raises
        ------
        ProtocolError
            If the body is none that the market takes, or not from this kind of sender.
        LedgerMismatchError
            If the command comes from a log whose answers of the map do not belong to it.
        """
        out = Outcome()
        self._places.begin(command.lookups)
        match command.body:
            case OpenMarket() as body:
                self._open(body, command.now_ns, out)
            case Pace() | Halt() as body:
                self._hold(body, command.now_ns, out)
            case ClockTick():
                self._tick(command.now_ns, out)
            case Announce() | Presence() | Position() as body:
                self._robot(command, body, out)
            case TelemetryRecord():
                pass  # for the oracles alone
            case Ask() as body:
                self._batches.take(RobotId(command.source), body, command.now_ns, out)
            case Receipt() as body:
                self._confirm(command.source, body, out)
            case Checkpoint() as body:
                self._checkpoint(body, out)
            case ResaleAsk() | Prepared() | Offer() as body:
                self._resell(command, body, out)
            case OracleTerms() | FairRequest() | FairAnswer() | OpenRequest() | LeafOpening():
                self._consult(command, out)
            case body if is_execution(body):
                self._execution.handle(command, out)
            case body if isinstance(body, _CUSTOMER_REQUESTS):
                self._desk.handle(command, out)
            case body:
                raise ProtocolError("unexpected", f"{command.source} sent {type(body).__name__}")
        out.changed = out.changed or bool(out.accounts or out.entries)
        out.lookups = self._places.answers()
        for done in out.done:
            self.state.unconfirmed.pop(done, None)
        self.state.unconfirmed.update({send.id: send for send in out.sends if send.id is not None})
        return out

    def _confirm(self, source: str, body: Receipt, out: Outcome) -> None:
        """Note that a message has arrived, if it says so to whom it was sent."""
        sent = self.state.unconfirmed.get(body.of)
        if sent is not None and topics.parse(sent.topic).name == source:
            out.done.append(body.of)
            out.changed = True

    def _checkpoint(self, body: Checkpoint, out: Outcome) -> None:
        self.state.compact()
        out.changed = True
        if body.form == form():
            out.snapshot = write_snapshot(self.state)

    def _resell(self, command: Command, body: ResaleAsk | Prepared | Offer, out: Outcome) -> None:
        match body:
            case ResaleAsk():
                self._resales.take(RobotId(command.source), body, command.now_ns, out)
            case Prepared():
                self._resales.prepared(command, body, out)
            case Offer():
                self._resales.offer(RobotId(command.source), body, out)

    def _consult(self, command: Command, out: Outcome) -> None:
        if isinstance(command.body, OpenRequest | LeafOpening):
            self._openings.handle(command, out)
        else:
            self._advice.handle(command, out)

    def _open(self, body: OpenMarket, now_ns: int, out: Outcome) -> None:
        state = self.state
        state.zone, state.epoch, state.seed, state.terms = body.zone, body.epoch, body.seed, body.terms
        state.call, state.next_batch_ns, state.paused = None, now_ns, False
        state.next_resale_ns = now_ns
        self._resales.stop(out)
        for contract in state.contracts.values():
            grace_ns = now_ns + ns(body.terms.lease_s)
            contract.lease_until_ns = max(contract.lease_until_ns, grace_ns)
            contract.answer_by_ns = max(contract.answer_by_ns, grace_ns)
        state.open_account(WORLD, out)
        for customer, endowment_uc in sorted(body.customers.items()):
            mine = account(AccountKind.CUSTOMER, customer)
            if state.open_account(mine, out) and endowment_uc > 0:
                issue = TransferId(f"issue:{derive(customer)}")
                state.transfer(
                    [Transfer(issue, TransferKind.POST, WORLD, mine, endowment_uc, reference="endowment")], now_ns, out
                )
        out.sends.append(Send(topics.zone(state.zone, "auctioneer"), state.auctioneer(), retain=True))
        out.changed = True

    def _hold(self, body: Pace | Halt, now_ns: int, out: Outcome) -> None:
        """Hold back what is to be sold, or let it go on: the daemon has too much to do, or the operator wants it so."""
        if isinstance(body, Pace):
            out.changed = self.state.paused is not body.paused
            self.state.paused = body.paused
            return
        set_halted(self.state, body, now_ns, out)
        if body.halted:
            self._resales.stop(out)

    def _tick(self, now_ns: int, out: Outcome) -> None:
        release_orders(self.state, now_ns, out)
        self._execution.tick(now_ns, out)
        self._advice.tick(now_ns, out)
        self._openings.tick(now_ns, out)
        self._batches.tick(now_ns, out, may_open=self._resales.make_way(now_ns, out))
        self._resales.tick(now_ns, out)

    def _robot(self, command: Command, body: Body, out: Outcome) -> None:
        robots, robot = self.state.robots, RobotId(command.source)
        known = robots.get(robot)
        match body:
            case Announce() if known is None:
                if len(robots) >= MAX_ROBOTS:
                    raise ProtocolError("too_many_robots", f"{robot} would be more than {MAX_ROBOTS}")
                sid, online = self.state.early_presence.pop(robot, (0, False))
                robots[robot] = RobotRecord(body, sid, online, at=body.home)
                self.state.heaviest_kg = max(body.max_payload_kg, self.state.heaviest_kg or 0.0)
                out.changed = True
            case Announce() if known is not None and known.announce != body:
                known.announce, out.changed = body, True
                self.state.heaviest_kg = max(known.announce.max_payload_kg for known in robots.values())
            case Presence() if known is not None and command.sid >= known.sid:
                online = body.status == "online"
                out.changed = (known.online, known.sid) != (online, command.sid)
                known.online, known.sid = online, command.sid
                if not online:
                    self._batches.gone(robot, command.now_ns, out)
                    self._resales.gone(robot, command.now_ns, out)
            case Position() if known is not None:
                known.position = body
            case Presence() if known is None and len(self.state.early_presence) < MAX_ROBOTS:
                self.state.early_presence[robot] = (command.sid, body.status == "online")
                out.changed = True


def tick(now_ns: int) -> Command:
    """Return the input that lets time pass."""
    return Command(SELF, ClockTick(now_ns=now_ns), now_ns)
