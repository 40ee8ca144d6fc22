"""Batch scoring of Parquet files against the bare engine, and on Ray."""
