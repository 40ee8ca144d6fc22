"""Exports of a bundle to other runtimes, importable as `mtaw_fast.export`."""
