"""Benches of the HTTP service: under load, under faults, against other ASGI stacks, and behind Ray Serve."""
