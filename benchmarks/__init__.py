"""Benchmarks: what the system costs beside the least that the same work can cost on the same machine."""
