"""Serve a bundle's graph with onnxruntime alone, no mtaw_fast: python onnx_serve.py BUNDLE ITEM [ITEM ...]"""

import itertools
import json
import pathlib
import sys

import numpy as np
import onnxruntime

bundle, clicks = pathlib.Path(sys.argv[1]), sys.argv[2:]
files = json.loads((bundle / "manifest.json").read_text())["files"]

# External ids, a safetensors file: the length of a JSON header, the header, the arrays.
raw = (bundle / files["items"]["file"]).read_bytes()
data = 8 + int.from_bytes(raw[:8], "little")
at = {name: slice(*(data + end for end in entry["data_offsets"])) for name, entry in json.loads(raw[8:data]).items()}
if "blob" in at:
    blob, ends = raw[at["blob"]], np.frombuffer(raw[at["offsets"]], np.int64)
    names = [blob[begin:end].decode() for begin, end in itertools.pairwise(ends)]
else:
    names = np.frombuffer(raw[at["values"]], np.int64).tolist()
place = {str(name): i for i, name in enumerate(names)}

session = onnxruntime.InferenceSession(bundle / files["recommender"]["file"])
ids = np.array([[place[click] for click in clicks]], np.int32)  # [batch, length], padded on the right with -1
items, scores = session.run(None, {"ids": ids, "k": np.array([10], np.int32)})
print(json.dumps({"items": [names[item] for item in items[0]], "scores": scores[0].tolist()}))
