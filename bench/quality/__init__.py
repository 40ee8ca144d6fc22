"""Presets trained and scored on the public sets, and the records of it."""
