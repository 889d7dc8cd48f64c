"""What a user sets, and what he is told when it is wrong."""

import pytest

from fleet_market.adapters.fleet_files import shipped_types
from fleet_market.body import End, Go, Job, Link, Pose
from fleet_market.errors import InputError
from fleet_market.ids import RobotId
from fleet_market_hardware import drivers
from fleet_market_hardware.vda5050 import VERSIONS

KIND = shipped_types()["carrier"]


def make(**settings):
    return drivers.find("vda5050")(drivers.DriverSetup(RobotId("r1"), KIND, settings))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, "manufacturer"),
        ({"manufacturer": "a/b"}, "manufacturer was 'a/b'"),
        ({"manufacturer": "m", "serial": "a#"}, "serial was 'a#'"),
        ({"manufacturer": "m", "version": "9.9.9"}, "use one of 1.1.0, 2.0.0"),
        ({"manufacturer": "m", "topic": "a/{topic}/b"}, "end in /{topic}"),
        ({"manufacturer": "m", "port": "1883"}, "port was '1883'"),
        ({"manufacturer": "m", "host": ""}, "host was ''"),
        ({"manufacturer": "m", "capacity_wh": -3}, "capacity_wh was -3"),
        ({"manufacturer": "m", "actions": {"dance": {"type": "d"}}}, "actions.dance"),
        ({"manufacturer": "m", "colour": "red"}, "colour was 'red'"),
        ({"manufacturer": "m", "stale_s": 0}, "stale_s was 0"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value_and_mend(settings, text):
    with pytest.raises(InputError) as told:
        make(**settings)
    assert text in str(told.value)


def test_the_robots_type_fills_in_what_is_not_set():
    driver = make(manufacturer="acme")
    assert driver.config.topic_of("order") == "uagv/v2/acme/r1/order"
    assert driver.config.capacity_wh == KIND.battery.capacity_wh
    assert driver.spec.max_payload_kg == KIND.max_payload_kg
    assert "dead_man" in driver.spec.lacks
    assert make(manufacturer="a", version="3.0.0").config.topic_of("state") == "vda5050/v3/a/r1/state"


def test_the_list_says_what_is_not_verified():
    about = next(one.about for one in drivers.listed() if one.name == "vda5050")
    assert "2.1 and 3.0 not verified" in about
    assert [v for v, tried in VERSIONS.items() if "not verified" in tried] == ["2.1.0", "3.0.0"]


async def test_a_driver_that_is_not_open_runs_nothing_and_a_broker_that_is_not_there_is_a_timeout():
    driver = make(manufacturer="acme", port=1)
    assert driver.telemetry().link is Link.LOST
    result = await driver.run(Job("j", (Go(Pose(1.0, 0.0)),)), deadline_s=1)
    assert (result.end, result.reason) == (End.REJECTED, "the driver is not open")
    with pytest.raises(TimeoutError, match=r"no state on uagv/v2/acme/r1/state within 0\.3 s"):
        await driver.open(timeout_s=0.3)
    await driver.close()
