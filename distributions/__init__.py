"""Distributions beside the package itself: what is built of its sources, and how."""
