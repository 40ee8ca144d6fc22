"""Benches of the HTTP service: under load, under faults, and behind Ray Serve."""
