"""The arrays that kernels work on, and what their columns mean.

Numbering of stops: pickup of task `t` is `t`, its dropoff `n + t`; the queue of robot `r` begins at the stop `2n + r`
(where it stands) and ends at `2n + m + r` (where it must end; a place of its own, at no distance, when it may end
anywhere).
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]

# columns of Tables.node
LOAD, EARLY, LATE, SERVICE, DUE, RATE = range(6)
# columns of Tables.fleet
CAPACITY, SOC = range(2)
# columns of Tables.robot
SKILL, KIND = range(2)
# columns of Tables.task
NEED, FIXED = range(2)
# entries of Tables.rules
FLOOR, FULL, CHARGE_RATE, AGEING_S, MAKESPAN, TIMED, GENERAL, CHARGE_LOADED = range(8)
# columns of State.link
NEXT, PREV = range(2)
# columns of State.when
AT, LATEST, ABOARD, LEG, LEG_S = range(5)
# columns of State.robot
COST, FINISH = range(2)
# entries of State.sums
NOW, BEST, BLINK, STAMP = range(4)

EPS = 1e-9
"""Slack of comparisons of times and loads: rounding of sums of some hundred float64."""
INFINITE = 1e18
"""No bid."""
SOC_MARGIN = 1e-6
"""By how much a planned state of charge stays above the floor, so that rounding cannot take it below."""


class Tables(NamedTuple):
    """What is given; never changed by a kernel, but for `reserve`."""

    cost: FloatArray
    """(P + 1, P + 1): what a leg costs, all weights in; `inf` where there is no way. The last place is "anywhere"."""
    time: FloatArray
    """(P + 1, P + 1), seconds."""
    cost_to: FloatArray
    """(P + 1, P + 1): `cost` transposed: all ways to one place lie side by side in memory."""
    time_to: FloatArray
    """(P + 1, P + 1): `time` transposed."""
    soc: FloatArray
    """(P + 1, P + 1), share of the battery; (1, 1) when the battery does not matter."""
    place: IntArray
    """(2n + 2m,)."""
    node: FloatArray
    """(2n + 2m, 6): change of load, earliest and latest start of service (s), service (s), due time (s), cost of each
    second past it."""
    fleet: FloatArray
    """(m, 2): capacity, state of charge at the start."""
    robot: IntArray
    """(m, 2): skills as bits; kind: robots of the same kind are alike in all respects."""
    task: IntArray
    """(n, 2): skills needed as bits; 1 if the task may not leave its robot."""
    charger: IntArray
    """(m, C): places of the chargers that a robot may use, -1: none."""
    charger_free: FloatArray
    """(m, C): time from which a charger is free, s."""
    near: IntArray
    """(n, K): the tasks most related to a task, best first."""
    follow: IntArray
    """(n, K): the tasks whose dropoffs are nearest to a pickup."""
    beside: IntArray
    """(n, K): the stops (pickups and dropoffs) nearest to a pickup; (n, 0): every place in a queue is tried."""
    close: IntArray
    """(n, K2): the robots that stand nearest to a pickup."""
    reserve: FloatArray
    """(n,): cost of leaving a task unsold."""
    gate: IntArray
    """(m,): the last stop of a robot that may not be moved any more; nothing is put before it."""
    rules: FloatArray
    """(8,): SoC to keep, SoC to charge up to, SoC per second of charging, ageing time (s), weight of the makespan, whether
    there are times to keep, whether queues must be simulated, whether a loaded robot may charge."""


class State(NamedTuple):
    """An allocation, as linked queues."""

    link: IntArray
    """(2n + 2m, 2): next and previous stop; -1 for stops in no queue."""
    own: IntArray
    """(n,): robot that has the task, -1: nobody."""
    when: FloatArray
    """(2n + 2m, 5): start of service, latest start that keeps all later windows, load after the stop; cost and time of
    the leg to the next stop."""
    robot: FloatArray
    """(m, 2): cost of the queue, when it ends."""
    best_link: IntArray
    best_own: IntArray
    sums: FloatArray
    """(4,): total cost now, least total cost found; places left to look at before one is overlooked; count of rounds."""


class Work(NamedTuple):
    """Room to work in."""

    lots: IntArray
    """(n,): tasks on sale."""
    key: FloatArray
    """(n,)."""
    on_sale: IntArray
    """(n,): 1 while on sale."""
    seen: IntArray
    """(m,): stamp of the lot for which a robot was asked last."""
    seen_kind: IntArray
    """(m,): stamp of the lot for which an empty robot of a kind was asked last."""
    askers: IntArray
    """(m,): robots that are asked for a lot."""
    saved: IntArray
    """(m, 3): whether the queue of a robot is saved, where in `arena`, how long."""
    touched: IntArray
    """(m,): robots whose queues are saved."""
    arena: IntArray
    """(2n + 2m,)."""
    saved_robot: FloatArray
    """(m, 2)."""
    absent: IntArray
    """(n,): how often a task was left over."""
    queue: IntArray
    """(2n + 4,): a queue to simulate."""
    trial: IntArray
    """(2n + 4,)."""
    label: FloatArray
    """(2n + 4, 6): states of arrival at a charger before each stop."""
