"""Adapters: the only place that touches files, MQTT, databases and processes."""
