"""The HTTP service under load and under faults; the stacks it could stand on."""
