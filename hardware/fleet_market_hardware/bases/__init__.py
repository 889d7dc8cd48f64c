"""Velocity bases: motor controllers that implement `fleet_market.ports.VelocityBase`.

`Differential` is the base; a `Wheels` is what speaks to the controllers. Import the module of the one that you use:
`odrive` needs python-can, `vesc` and `create2` pyserial, `cia402` canopen (extra ``hardware``).
"""

from fleet_market_hardware.bases.differential import Differential
from fleet_market_hardware.bases.geometry import Fence, Geometry
from fleet_market_hardware.bases.wheels import Wheel, Wheels, WheelsReading

__all__ = ["Differential", "Fence", "Geometry", "Wheel", "Wheels", "WheelsReading"]
