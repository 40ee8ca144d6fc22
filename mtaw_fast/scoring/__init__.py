"""Recommendations for files of sessions, block by block."""
