"""Elman beside its peers, over cells and sizes: `python -m benchmarks grid`."""
