"""Power losses: nothing that was acknowledged may be gone; and the disk must be able to lose something."""

import pytest

from fleet_market.testing.books import Books
from fleet_market.testing.power_trials import run_trial
from fleet_market.testing.powerloss import Disk, PowerCutError, open_on

pytest.importorskip("apsw")


def test_no_acknowledged_command_is_lost_in_a_hundred_power_losses():
    trials = [run_trial(seed) for seed in range(34)]
    assert sum(trial.cuts for trial in trials) >= 100
    assert sum(trial.acknowledged for trial in trials) > 1000
    assert [(t.seed, t.lost, t.faults) for t in trials if t.lost or t.faults] == []


@pytest.mark.parametrize(("synchronous", "consistent"), [("NORMAL", True), ("OFF", False)])
def test_the_simulated_disk_does_lose_what_was_not_synced(synchronous, consistent):
    trials = [run_trial(seed, synchronous=synchronous) for seed in range(8)]
    assert sum(trial.lost for trial in trials) > 0
    assert all(not trial.faults for trial in trials) == consistent


def test_the_same_seed_gives_the_same_trial():
    assert run_trial(3) == run_trial(3)
    assert run_trial(3, synchronous="NORMAL") == run_trial(3, synchronous="NORMAL")
    assert len({run_trial(seed).acknowledged for seed in range(4, 9)}) > 1


def test_without_power_nothing_can_be_done():
    disk = Disk(1)
    store = open_on(disk)
    disk.cut()
    with pytest.raises(PowerCutError):
        store.commit([Books().gift()])
    with pytest.raises(PowerCutError):
        open_on(disk)
    disk.start_again()
    with open_on(disk) as store:
        assert list(store.events()) == []
