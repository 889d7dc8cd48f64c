"""Bytes to values and back: pure functions, one module per protocol. No I/O, no time."""
