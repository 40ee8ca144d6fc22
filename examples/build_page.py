"""Copy the page, its engines and a bundle into a folder that any web server can serve:

npm install                                       # in this folder, once: onnxruntime-web
make wasm                                         # in the repository, once: libmtaw as WebAssembly
mtaw-fast export shop.bundle --page page.bundle
python build_page.py shop.bundle site --page page.bundle
python -m http.server --directory site --bind 127.0.0.1

The engine mtaw_fast takes the bundle of --page, or the whole one without it. ONNX Runtime takes the bundle's graph, if
it has one ('mtaw-fast export shop.bundle --onnx'). An engine that was not built or installed is left out.
"""

import argparse
import hashlib
import json
import pathlib
import shutil

here = pathlib.Path(__file__).resolve().parent
wasm, ort = here.parent / "clients" / "wasm", here / "node_modules" / "onnxruntime-web" / "dist"
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("bundle", type=pathlib.Path)
parser.add_argument("site", type=pathlib.Path)
parser.add_argument("--page", type=pathlib.Path, help="a smaller bundle for the engine mtaw_fast")
options = parser.parse_args()
site, engines = options.site, []


def files_of(bundle: pathlib.Path) -> dict:
    return json.loads((bundle / "manifest.json").read_text())["files"]


def copy(names: list[str], source: pathlib.Path, folder: str) -> None:
    (site / folder).mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copy(source / name, site / folder)


built = (wasm / "dist" / "mtaw.wasm").exists()
if options.page is not None and not built:
    parser.error("--page is for the engine mtaw_fast, which is not built: run 'make wasm', or leave --page out")
if built:
    engines.append("wasm")
    copy(["index.mjs"], wasm, "mtaw")
    copy(["core.mjs", "mtaw.mjs", "mtaw.wasm"], wasm / "dist", "mtaw/dist")
    bundle = options.page or options.bundle
    names = [one["file"] for one in files_of(bundle).values()]
    copy([*names, "manifest.json"], bundle, "bundle")  # the manifest last: it never names a file that is not there yet
    for path in (site / "bundle").iterdir():  # of an earlier bundle
        if path.name not in (*names, "manifest.json"):
            path.unlink()
graph = files_of(options.bundle).get("recommender")
if graph is not None and ort.is_dir():
    engines.append("onnx")
    copy(["ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"], ort, "ort")
    copy(["onnx_feed.mjs"], here, ".")
    shutil.copy(options.bundle / graph["file"], site / "recommender.onnx")
if not engines:
    parser.error("there is no engine: run 'make wasm', or 'npm install' here and 'mtaw-fast export BUNDLE --onnx'")
copy(["index.html", "page.mjs", "worker.mjs"], here / "page", ".")
(site / "engines.json").write_text(json.dumps(engines))
content = hashlib.sha256()
for path in sorted(site.rglob("*")):
    if path.is_file() and path.name != "offline.js":
        content.update(path.relative_to(site).as_posix().encode() + path.read_bytes())
worker = (here / "page" / "offline.js").read_text()
(site / "offline.js").write_text(worker.replace("mtaw-VERSION", f"mtaw-{content.hexdigest()[:16]}"))
