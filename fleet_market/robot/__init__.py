"""The robot's side of the market."""
