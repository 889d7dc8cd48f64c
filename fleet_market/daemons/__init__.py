"""Composition roots: they build the adapters around the pure core and run them."""
