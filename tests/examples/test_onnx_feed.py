"""The inputs that the examples in JavaScript make for a graph, without ONNX Runtime."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

FEED = Path(__file__).resolve().parents[2] / "examples" / "onnx_feed.mjs"
PROGRAM = """
const { feedOf } = await import(process.argv[1]);
class Tensor { constructor(type, data, dims) { Object.assign(this, { type, data: Array.from(data, String), dims }); } }
const session = { inputMetadata: [{ name: 'session', type: 'int64' }], inputNames: [] };
const odd = ['18446744073709551623', '-9223372036854775809', '0x7', 'seven', '', 1.5, 2 ** 53];
const clicks = [7, ...odd, '-9223372036854775808', 9223372036854775807n];
const feed = feedOf({ Tensor }, session, [[], clicks, odd], { exclude: odd, allow: [...odd, '8'] });
console.log(JSON.stringify(feed));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_what_is_no_int64_is_unknown() -> None:
    command = ["node", "--input-type=module", "-e", PROGRAM, str(FEED)]
    process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert process.returncode == 0, process.stderr
    feed = {name: (tensor["data"], tensor["dims"]) for name, tensor in json.loads(process.stdout).items()}
    padding = ["-1"] * 3
    clicks = ["7", "-9223372036854775808", "9223372036854775807"]
    assert feed["session"] == ([*padding, *clicks, *padding], [3, 3])
    assert feed["lengths"] == (["0", "3", "0"], [3])
    assert feed["exclude"] == ([], [0])
    assert feed["allow"] == (["8"], [1])
    assert feed["use_allow"] == (["1"], [1])
