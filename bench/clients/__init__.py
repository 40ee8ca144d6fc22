"""Bench of the clients: what a call, a start and a size are in Python, C, Go, Node.js and ONNX Runtime."""
