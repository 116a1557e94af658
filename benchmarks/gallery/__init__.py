"""One real output of each of the eight applications: `python -m benchmarks.gallery`, or `make gallery`."""
