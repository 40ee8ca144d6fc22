#!/usr/bin/env bash
# Next to the wheels and the sdist in a folder: SHA256SUMS, and an SBOM (CycloneDX) of what the x86-64 wheel for CPython
# 3.11 installs with all extras that serve. Used by the release workflow; runs anywhere: .ci/release_materials.sh dist
set -euo pipefail
dist=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
wheel=$(find "$dist" -name '*cp311-*x86_64.whl' | sort | tail -n 1)
test -n "$wheel" || { echo "$dist has no x86-64 wheel for CPython 3.11" >&2; exit 1; }
python3 -m venv "$work/served"
"$work/served/bin/pip" install --quiet --only-binary :all: "$wheel[serve,cpu]"
"$work/served/bin/pip" uninstall --quiet --yes setuptools
python3 -m venv "$work/tools"
"$work/tools/bin/pip" install --quiet cyclonedx-bom==7.5.0
"$work/tools/bin/cyclonedx-py" environment --output-format JSON --spec-version 1.6 --mc-type library \
  --output-reproducible --output-file "$dist/mtaw_fast.cdx.json" "$work/served/bin/python"
cd "$dist"
rm -f SHA256SUMS
find . -maxdepth 1 -type f ! -name SHA256SUMS -printf '%P\n' | sort | xargs sha256sum > "$work/SHA256SUMS"
mv "$work/SHA256SUMS" SHA256SUMS
