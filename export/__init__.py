"""What is made from a trained bundle, importable as `mtaw_fast.export`: an approximate index for large catalogs."""
