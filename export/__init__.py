"""Exports from a trained bundle, importable as `mtaw_fast.export`: ONNX graphs, and an index for large catalogs."""
