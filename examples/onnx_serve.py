"""Serve a bundle's graph with onnxruntime alone, no mtaw_fast: python onnx_serve.py BUNDLE [ITEM ...]"""

import json
import pathlib
import re
import sys
import time

import numpy as np
import onnxruntime

bundle, clicks = pathlib.Path(sys.argv[1]), sys.argv[2:]
files = json.loads((bundle / "manifest.json").read_text())["files"]
session = onnxruntime.InferenceSession(bundle / files["recommender"]["file"], providers=["CPUExecutionProvider"])

inputs = {one.name: one.type for one in session.get_inputs()}
ids = np.int64 if inputs["session"] == "tensor(int64)" else object  # external ids are int64 or text
if ids is np.int64:  # what no int64 holds is an unknown item
    clicks = [one for one in clicks if re.fullmatch("-?[0-9]{1,19}", one) and -(2**63) <= int(one) < 2**63]
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
