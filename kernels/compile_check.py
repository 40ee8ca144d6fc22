"""Compile every Triton kernel in its default configuration without a GPU.

Run as `python -m mtaw_fast.kernels.compile_check`.
Prints shared memory, registers and spills of every kernel, dtype and target, and for NVIDIA's GPUs what a trip of its
main loop does. Exits 1 where a kernel spills on a target that must not, takes more shared memory than a block can have
there, has an atomic operation or a 64-bit multiplication in its main loop, or does other work in a tile than by the
formulas of its op's README.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from mtaw_fast.errors import UsageError, require
from mtaw_fast.kernels.compile_case import CompileCase, PerTile
from mtaw_fast.kernels.compile_mix import Mix, mix_faults, mix_of
from mtaw_fast.kernels.triton_device import interpreting

# Modules with `compile_cases(backend) -> list[CompileCase]`, backend 'cuda' or 'hip'. A new op adds its own.
OPS: tuple[str, ...] = (
    "mtaw_fast.kernels.adam.configs",
    "mtaw_fast.kernels.aw_loss.compile_cases",
    "mtaw_fast.kernels.prefix_interest.compile_cases",
)


@dataclass(frozen=True, slots=True)
class Target:
    """A GPU architecture. shared_limit: bytes that one block can have. may_spill: whether spills are let pass.
    products: the instructions of its tensor cores, as in `Mix`; '' where they are not counted.
    """

    name: str
    backend: str
    arch: int | str
    warp_size: int
    shared_limit: int
    may_spill: bool
    products: str = ""


TARGETS = (
    Target("sm_80", "cuda", 80, 32, 163 << 10, may_spill=False, products="mma"),
    Target("sm_90", "cuda", 90, 32, 227 << 10, may_spill=False, products="wgmma"),
    Target("sm_100", "cuda", 100, 32, 227 << 10, may_spill=False, products="tcgen05"),
    Target("gfx942", "hip", "gfx942", 64, 64 << 10, may_spill=True),
)


@dataclass(frozen=True, slots=True)
class Compiled:
    """What one kernel takes on one target: bytes of shared memory a block, registers and spilled bytes a thread.

    mix: the instructions of its PTX. threads: threads of a block. per_tile, gathers: those of its case.
    """

    op: str
    kernel: str
    dtype: str
    target: str
    shared: int
    registers: int
    spills: int
    mix: Mix | None = None
    threads: int = 0
    per_tile: PerTile | None = None
    gathers: bool = False

    def faults(self, target: Target) -> list[str]:
        """What is wrong with it there; empty where nothing is."""
        name = f"{self.op}: {self.kernel} ({self.dtype}) on {self.target}"
        faults = []
        if self.shared > target.shared_limit:
            faults.append(f"{name} takes {self.shared} bytes of shared memory, more than {target.shared_limit}")
        if self.spills and not target.may_spill:
            faults.append(f"{name} spills {self.spills} bytes a thread")
        if self.mix is not None and self.mix.atomics:
            faults.append(f"{name} has {self.mix.atomics} atomic operations")
        if self.mix is not None and self.mix.loops and self.mix.wide_multiplies and not self.gathers:
            faults.append(f"{name} has {self.mix.wide_multiplies} 64-bit multiplications in its main loop")
        if self.mix is not None and self.per_tile is not None:
            wrong = mix_faults(self.mix, self.per_tile, target.products, self.threads)
            faults += [f"{name}: {fault}" for fault in wrong]
        return faults


def op_name(module: str) -> str:
    """The op's name, from its module in OPS."""
    return module.split(".")[-2]


def cases_of(op: str, backend: str) -> list[CompileCase]:
    """The cases that a module of OPS lists."""
    return importlib.import_module(op).compile_cases(backend)


def build(case: CompileCase, target: Target) -> Any:
    """Return Triton's compiled kernel of a case, as launched on the target; its `asm` has every stage's text."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = case.kernel.arg_names
    if set(names) != set(case.signature) | set(case.constants):
        wrong = set(names) ^ (set(case.signature) | set(case.constants))
        raise UsageError(f"{case.op}: {case.kernel.__name__}: arguments missing or too many: {sorted(wrong)}")
    signature = {name: case.signature.get(name, "constexpr") for name in names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if signature[name].startswith("*")}
    return triton.compile(
        ASTSource(
            case.kernel, signature, {(names.index(name),): value for name, value in case.constants.items()}, aligned
        ),
        target=GPUTarget(target.backend, target.arch, target.warp_size),
        options={"num_warps": case.num_warps, "num_stages": case.num_stages, "enable_fp_fusion": True},
    )


def measure(case: CompileCase, target: Target) -> Compiled:
    """Compile one case for one target and read what it takes."""
    compiled = build(case, target)
    registers, spills = _of_ptx(compiled, target) if target.backend == "cuda" else _of_amdgcn(compiled)
    mix = mix_of(compiled.asm["ptx"], case.num_warps) if target.backend == "cuda" else None
    return Compiled(
        case.op, case.kernel.__name__, case.dtype, target.name, compiled.metadata.shared, registers, spills,
        mix, case.num_warps * target.warp_size, case.per_tile, case.gathers,
    )  # fmt: skip


def _of_ptx(compiled: Any, target: Target) -> tuple[int, int]:
    """Registers and spilled bytes a thread, from the assembler's own report (the cubin does not show spills)."""
    from triton.backends.nvidia import compiler

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(compiled.asm["ptx"])
        arch = f"sm_{target.arch}{'a' if int(target.arch) >= 90 else ''}"
        assembler = compiler.get_ptxas(target.arch).path
        command = [assembler, "-v", f"--gpu-name={arch}", str(source), "-o", str(source.with_suffix(".cubin"))]
        report = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    registers = max(int(n) for n in re.findall(r"Used (\d+) registers", report))
    return registers, sum(int(n) for n in re.findall(r"(\d+) bytes spill stores", report))


def _of_amdgcn(compiled: Any) -> tuple[int, int]:
    """Vector registers and bytes of scratch memory a thread, from the code object's metadata.

    Scalar registers that spill into vector registers do not touch memory and do not count.
    """
    text = compiled.asm["amdgcn"]

    def total(field: str) -> int:
        return sum(int(n) for n in re.findall(rf"\.{field}:\s+(\d+)", text))

    return total("vgpr_count"), total("private_segment_fixed_size")


def _measure_numbered(op: str, number: int, target: Target) -> Compiled:
    return measure(cases_of(op, target.backend)[number], target)


def measure_all(ops: Iterable[str], targets: Iterable[Target], jobs: int, with_rare: bool) -> list[Compiled]:
    """Measure every case of every op on every target, in `jobs` processes.

    Cases that compile the same kernel from the same arguments and options are compiled once.
    """
    cases: list[tuple[CompileCase, tuple[object, ...]]] = []
    work: dict[tuple[object, ...], tuple[str, int, Target]] = {}
    for op in ops:
        for target in targets:
            for number, case in enumerate(cases_of(op, target.backend)):
                if with_rare or not case.rare:
                    key = (target, *_compiled_from(case))
                    work.setdefault(key, (op, number, target))
                    cases.append((case, key))
    if not work:
        return []
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        rows = dict(zip(work, pool.map(_measure_numbered, *zip(*work.values(), strict=True)), strict=True))
    return [
        dataclasses.replace(rows[key], dtype=case.dtype, per_tile=case.per_tile, gathers=case.gathers)
        for case, key in cases
    ]


def _compiled_from(case: CompileCase) -> tuple[object, ...]:
    """Return everything that a case's compiled code depends on, for one target."""
    arguments = (tuple(case.signature.items()), tuple(case.constants.items()))
    return (case.op, case.kernel.__name__, *arguments, case.num_warps, case.num_stages)


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--op", action="append", choices=sorted(map(op_name, OPS)), help="only this op's kernels")
    names = [target.name for target in TARGETS]
    parser.add_argument("--target", action="append", choices=names, help="only for this GPU architecture")
    parser.add_argument(
        "--all", action="store_true", help="also the variants that need minutes and are seldom launched"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows there")
    parser.add_argument("--jobs", type=int, default=2, help="processes that compile (default 2)")
    arguments = parser.parse_args(argv)
    require("triton", "gpu")
    if interpreting():
        print("compile_check: unset TRITON_INTERPRET: an interpreted kernel is not compiled", file=sys.stderr)
        return 2

    ops = [op for op in OPS if arguments.op is None or op_name(op) in arguments.op]
    targets = {target.name: target for target in TARGETS if target.name in (arguments.target or names)}
    rows = measure_all(ops, targets.values(), arguments.jobs, arguments.all)
    print(
        f"{'op':<16} {'kernel':<28} {'dtype':<22} {'target':<7} {'shared':>7} {'registers':>9} {'spills':>6}  "
        "a trip of the main loop"
    )
    for row in rows:
        print(
            f"{row.op:<16} {row.kernel:<28} {row.dtype:<22} {row.target:<7} "
            f"{row.shared:>7} {row.registers:>9} {row.spills:>6}  {row.mix.describe() if row.mix else ''}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=1) + "\n")
    faults = [fault for row in rows for fault in row.faults(targets[row.target])]
    for fault in faults:
        print(f"compile_check: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
