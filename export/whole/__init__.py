"""The whole recommender as one ONNX graph: ids, encoder, session memory, ranker and conditions."""
