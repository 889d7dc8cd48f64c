"""VDA 5050, both ways: vehicles of others as `RobotDriver`s, and our robots as vehicles for a master control of others.

The protocol's decisions are pure state machines (`master.Master`, `vehicle.Vehicle`): messages and the time in, messages
out. `link` and `driver` put the first on MQTT, `serving` the second.
"""

from fleet_market_hardware.vda5050.config import VehicleConfig
from fleet_market_hardware.vda5050.driver import Vda5050Driver, driver
from fleet_market_hardware.vda5050.link import MasterLink
from fleet_market_hardware.vda5050.versions import VERSIONS

__all__ = ["VERSIONS", "MasterLink", "Vda5050Driver", "VehicleConfig", "driver"]
