"""Copy the page, its runtime and a bundle's graph into a folder that any web server can serve:

npm install                                  # in this folder, once: onnxruntime-web
python build_page.py shop.bundle site
python -m http.server --directory site --bind 127.0.0.1
"""

import json
import pathlib
import shutil
import sys

here = pathlib.Path(__file__).resolve().parent
bundle, site = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
graph = json.loads((bundle / "manifest.json").read_text())["files"]["recommender"]["file"]

(site / "ort").mkdir(parents=True, exist_ok=True)
for name in ("index.html", "page.mjs"):
    shutil.copy(here / "page" / name, site)
shutil.copy(here / "onnx_feed.mjs", site)
shutil.copy(bundle / graph, site / "recommender.onnx")
for name in ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"):
    shutil.copy(here / "node_modules" / "onnxruntime-web" / "dist" / name, site / "ort")
