"""Measurements that a stranger can repeat: `python -m benchmarks layers`, `python -m benchmarks grid`."""
