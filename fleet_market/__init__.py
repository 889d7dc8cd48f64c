"""Fleet Market: a task marketplace for robot fleets, with a bridge to the hardware."""

__version__ = "0.1.0"
