"""Serve a bundle's graph with onnxruntime alone, no mtaw_fast: python onnx_serve.py BUNDLE [ITEM ...]"""

import json
import pathlib
import sys
import time

import numpy as np
import onnxruntime

bundle, clicks = pathlib.Path(sys.argv[1]), sys.argv[2:]
files = json.loads((bundle / "manifest.json").read_text())["files"]
session = onnxruntime.InferenceSession(bundle / files["recommender"]["file"], providers=["CPUExecutionProvider"])

inputs = {one.name: one.type for one in session.get_inputs()}
ids = np.int64 if inputs["session"] == "tensor(int64)" else object  # external ids are int64 or text
feed = {
    "session": np.array([clicks], ids),  # [batch, length], padded on the right with any value
    "lengths": np.array([len(clicks)], np.int32),
    "k": np.array([10]),
    "exclude": np.array([], ids),
    "allow": np.array([], ids),  # used if use_allow is true
    "use_allow": np.array([False]),
    "exclude_seen": np.array([False]),
}
if "now" in inputs:  # a bundle with trends: Unix milliseconds
    feed["now"] = np.array([time.time_ns() // 1_000_000])
items, scores = session.run(None, feed)
found = scores[0] > -np.inf  # padding is "" or -1, and -inf
print(json.dumps({"items": items[0][found].tolist(), "scores": scores[0][found].tolist()}))
