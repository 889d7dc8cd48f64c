"""Daemons that look at each other and even out their zones."""

from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_market.daemons.sharing import may_claim, to_give_away
from fleet_market.ids import ZoneId
from fleet_market.ports import Member

ZONES = [ZoneId(f"z{n}") for n in range(12)]


class Daemons:
    """Daemons that take turns; each does in its turn what the product does in a beat."""

    def __init__(self, would_run):
        self.would_run = [frozenset(zones) for zones in would_run]
        self.held = [[] for _ in would_run]
        self.alive = [True] * len(would_run)
        self.moves = 0

    def others(self, me):
        return [Member(self.would_run[n], len(self.held[n])) for n, alive in enumerate(self.alive) if alive and n != me]

    def free(self):
        return [zone for zone in ZONES if all(zone not in held for held in self.held)]

    def turn(self, me):
        for zone in self.free():
            if zone in self.would_run[me] and may_claim(zone, len(self.held[me]), self.others(me)):
                self.held[me].append(zone)
                self.moves += 1
                return
        if (zone := to_give_away(self.held[me], self.others(me))) is not None:
            self.held[me].remove(zone)
            self.moves += 1

    def settle(self, draw_order):
        """Let all take turns until a whole round changes nothing; return whether it came to that."""
        for _ in range(200):
            before = self.moves
            for me in draw_order():
                if self.alive[me]:
                    self.turn(me)
            if self.moves == before:
                return True
        return False


@settings(deadline=None)
@given(st.integers(1, 5), st.randoms(use_true_random=False), st.data())
def test_all_zones_are_run_evenly_also_after_deaths_and_arrivals(count, chance, data):
    daemons = Daemons([ZONES] * count)
    daemons.alive = [True] + [data.draw(st.booleans()) for _ in range(count - 1)]

    def order():
        return chance.sample(range(count), count)

    for _ in range(3):
        assert daemons.settle(order)
        living = [len(daemons.held[n]) for n in range(count) if daemons.alive[n]]
        assert daemons.free() == []
        assert sum(living) == len(ZONES)
        assert max(living) - min(living) <= 1
        changed = data.draw(st.integers(0, count - 1))
        daemons.alive[changed] = not daemons.alive[changed] or sum(daemons.alive) == 1
        if not daemons.alive[changed]:
            daemons.held[changed] = []


@settings(deadline=None)
@given(st.lists(st.sets(st.sampled_from(ZONES)), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_daemons_of_different_zones_leave_none_without_a_market(would_run, chance):
    daemons = Daemons(would_run)
    assert daemons.settle(lambda: chance.sample(range(len(would_run)), len(would_run)))
    assert set(daemons.free()) == set(ZONES) - set().union(*would_run)


def test_the_newest_zone_is_given_away_and_only_to_who_would_run_it():
    held = [ZoneId("a"), ZoneId("b"), ZoneId("c")]
    assert to_give_away(held, [Member(frozenset(held), 1)]) == "c"
    assert to_give_away(held, [Member(frozenset({ZoneId("b")}), 0)]) == "b"
    assert to_give_away(held, [Member(frozenset({ZoneId("d")}), 0), Member(frozenset(held), 2)]) is None
