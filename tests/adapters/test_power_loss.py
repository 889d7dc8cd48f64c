"""Power losses: nothing that was acknowledged may be gone; and the disk must be able to lose something."""

import pytest

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


def test_the_same_seed_leaves_the_same_disk():
    def image(seed):
        disk = Disk(seed)
        disk.cut_after(60)
        with pytest.raises(PowerCutError):
            while True:
                open_on(disk).close()
        disk.start_again()
        return {name: bytes(file.now) for name, file in disk.files.items()}

    assert image(3) == image(3)
    assert any(image(3) != image(seed) for seed in range(4, 9))
