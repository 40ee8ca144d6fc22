"""What is made from a trained bundle, importable as `mtaw_fast.export`: ONNX graphs, an index for large catalogs."""
