"""What goes wrong, and when: by chance at chosen instants, and at chosen points of the market's program."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fleet_market.testing.simulation.network import Weather

if TYPE_CHECKING:
    from fleet_market.testing.simulation.runs import Simulation

POINTS = ("before commit", "during commit", "after commit", "after ack", "after publish", "before outbox delete")
"""Where the market can be made to die: nothing stored; half of it written (a real database, whose disk loses its power);
stored, neither acknowledged nor sent; acknowledged, not sent; sent, its receipt not here; its receipt here, not stored."""
MAX_COUNTDOWN = 6
STRIKES = (
    "market crash", "commit crash", "broker restart", "broker amnesia", "disconnect", "stall", "clock jump", "robot crash",
    "robot death", "robot trouble",
)  # fmt: skip
"""Kinds of faults that happen at an instant; the others hold all the time."""
MIN_ROBOTS = 2
AWAY_S, STALL_S, TROUBLE_S, JUMP_S = (0.1, 15.0), (0.5, 60.0), (5.0, 60.0), 20.0


class Points:
    """Lets the market die at a point of its program that it reaches for the n-th time from now."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self._armed = ""
        self._countdown = 0

    def arm(self, point: str, countdown: int) -> None:
        """Choose the point; an earlier choice is forgotten."""
        self._armed, self._countdown = point, countdown
        self._sim.trace.note(f"armed: {point} {countdown}")

    def disarm(self) -> None:
        """Let it live."""
        self._armed = ""

    def reached(self, point: str) -> bool:
        """Return whether the market dies at this point, now."""
        if point != self._armed:
            return False
        self._countdown -= 1
        if self._countdown > 0:
            return False
        self._armed = ""
        if point != "during commit":
            self._sim.market.crash(point)
        return True


async def havoc(sim: Simulation) -> None:
    """Do what the scenario has in store until its chaos ends, then mend everything that can be mended."""
    scenario, chance = sim.scenario, sim.chance
    strikes = [fault for fault in STRIKES if fault in scenario.faults]
    while True:
        gap_s = chance.expovariate(1.0 / scenario.mean_gap_s)
        if sim.loop.time() + gap_s >= scenario.chaos_s:
            await asyncio.sleep(scenario.chaos_s - sim.loop.time())
            break
        await asyncio.sleep(gap_s)
        if strikes:
            _strike(sim, chance.choice(strikes))
    sim.trace.note("all is mended")
    sim.points.disarm()
    sim.network.weather = Weather(delay_s=scenario.weather.delay_s)
    for machine in sim.machines:
        machine.clock.off_s = 0.0
    for body in sim.world.bodies.values():
        body.broken = body.blind = False


def _strike(sim: Simulation, kind: str) -> None:
    chance = sim.chance
    match kind:
        case "market crash":
            sim.market.crash("killed", chance.choice((0.0, 0.0, 30.0)))
        case "commit crash":
            points = [point for point in POINTS if sim.scenario.sqlite or point != "during commit"]
            sim.points.arm(chance.choice(points), chance.randint(1, MAX_COUNTDOWN))
        case "broker restart" | "broker amnesia":
            sim.network.restart(chance.uniform(*AWAY_S), remembers=kind == "broker restart")
        case "disconnect" | "stall":
            _break_a_line(sim, kind)
        case "clock jump":
            machine = chance.choice([sim.market, chance.choice(sim.machines)])
            machine.clock.off_s += chance.uniform(-JUMP_S, JUMP_S)
            sim.trace.note(f"the clock of {machine.name} is off by {machine.clock.off_s:.3f}")
        case "robot crash":
            chance.choice(sim.robots).crash("killed", chance.choice((0.0, 20.0)))
        case "robot death":
            alive = [robot for robot in sim.robots if robot.on]
            if len(alive) > MIN_ROBOTS:
                robot = chance.choice(alive)
                robot.on = False
                robot.crash("dead for good")
        case "robot trouble":
            body = chance.choice(list(sim.world.bodies.values()))
            trouble = chance.choice(("broken", "blind"))
            sim.trace.note(f"{body.robot} is {trouble}")
            setattr(body, trouble, True)
            sim.loop.call_later(chance.uniform(*TROUBLE_S), setattr, body, trouble, False)


def _break_a_line(sim: Simulation, kind: str) -> None:
    clients = [session.client for session in sim.network.sessions.values() if session.client is not None]
    if not clients:
        return
    client = sim.chance.choice(clients)
    if kind == "disconnect":
        sim.network.drop(client, "the line broke")
    else:
        sim.network.stall(client, sim.chance.uniform(*STALL_S))
