"""Bugs that others have made, planted in the running program: the simulation must find each within a few seeds."""

import asyncio

import pytest

from fleet_market.adapters.clocks import WallClock
from fleet_market.daemons.engine import Engine
from fleet_market.daemons.zone import Zone
from fleet_market.market import execution
from fleet_market.market.execution import Execution
from fleet_market.market.state import State
from fleet_market.testing.simulation import simulate
from fleet_market.testing.simulation.scenario import SQLITE_EVERY
from fleet_market.testing.simulation.stores import MemoryDisk, SqliteDisk

SEEDS = range(20)


def acknowledge_first(patch):
    """An input is acknowledged when it is taken; whatever the disk does then, MQTT will not deliver it again."""
    take = Engine.take

    async def hasty(self, command, ack=lambda: None):
        ack()
        return await take(self, command)

    patch.setattr(Engine, "take", hasty)


def send_first(patch):
    """Effects are sent at once: a crash, and the award was never made."""
    store = Engine._store_effects

    def unheeded(self, command, outcome, messages):
        store(self, command, outcome, messages)
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    patch.setattr(Engine, "_store_effects", unheeded)


def take_twice(patch):
    """No inbox: what is delivered twice is done twice."""
    patch.setattr(Engine, "_answered", lambda _self, _command: None)


def trust_the_puback(patch):
    """What the broker has confirmed is never sent again."""

    async def idle(_self, _transport):
        await asyncio.Event().wait()

    patch.setattr(Engine, "resend", idle)


def forget_the_outbox(patch):
    """A start does not look at what waited to be confirmed."""
    patch.setattr(Engine, "_recover_outbox", lambda _self, **_: None)


def pay_on_word(patch):
    """Evidence is not looked at."""
    patch.setattr(execution, "find_faults", lambda *_: [])


def keep_broken_contracts(patch):
    """A contract that a robot has lost stays in the books beside the next one."""
    revoke = State.revoke

    def kept(self, contract, *arguments, **more):
        order = revoke(self, contract, *arguments, **more)
        self.contracts[contract.id] = contract
        contract.lease_until_ns = contract.answer_by_ns = contract.limit_ns = 2**62
        return order

    patch.setattr(State, "revoke", kept)


def leave_in_escrow(patch):
    """An order that ends unpaid does not give its budget back."""
    patch.setattr(State, "release_budget", lambda *_: None)


def lose_the_last_input(patch):
    """A start overlooks the last input of the log."""
    events = MemoryDisk.events
    patch.setattr(MemoryDisk, "events", lambda self, after=0: (yield from list(events(self, after))[:-1]))


def go_back_in_time(patch):
    """The clock is believed even when it is set back."""
    patch.setattr(WallClock, "now_ns", lambda self: self._source())
    patch.setattr(Zone, "_now_ns", lambda self: self._clock.now_ns())


def forget_silent_robots(patch):
    """Nobody takes a contract from a robot that is never heard of again."""
    patch.setattr(Execution, "tick", lambda *_: None)


def do_not_sync(patch):
    """The database does not wait for the disk."""
    patch.setattr(SqliteDisk.__init__, "__kwdefaults__", {"synchronous": "NORMAL"})


@pytest.mark.parametrize(
    "plant",
    [
        acknowledge_first,
        send_first,
        take_twice,
        trust_the_puback,
        forget_the_outbox,
        pay_on_word,
        keep_broken_contracts,
        leave_in_escrow,
        lose_the_last_input,
        go_back_in_time,
        forget_silent_robots,
    ],
    ids=lambda plant: plant.__name__,
)
def test_a_planted_bug_is_found(plant, monkeypatch):
    plant(monkeypatch)
    found = next(faults for seed in SEEDS if (faults := simulate(seed).faults))
    assert not any("TypeError" in fault or "AttributeError" in fault for fault in found), "the patch does not fit any more"


def test_a_database_that_does_not_sync_is_found(monkeypatch):
    do_not_sync(monkeypatch)
    assert any(simulate(seed).faults for seed in range(SQLITE_EVERY - 1, 30 * SQLITE_EVERY, SQLITE_EVERY))
