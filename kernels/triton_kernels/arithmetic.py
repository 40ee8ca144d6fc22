"""Matrix products and roundings that give the same values compiled and interpreted.

Triton's interpreter (TRITON_INTERPRET=1) multiplies bf16 tiles as if their bits were integers, and its cast
from float32 to bf16 truncates where the hardware rounds to nearest even. Both functions mend that there and
are the plain operations when compiled.
"""

import triton
import triton.language as tl

INTERPRETING = tl.constexpr(triton.knobs.runtime.interpret)


@triton.jit
def dot(a, b, accumulator):
    """accumulator + a b: a [M, K], b [K, N] of one dtype, accumulator float32[M, N]; float32 is not cut to TF32."""
    if INTERPRETING:
        a = a.to(tl.float32)  # exact, and so are the products of two bf16 values in float32
        b = b.to(tl.float32)
    return tl.dot(a, b, accumulator, input_precision="ieee")


@triton.jit
def narrow(x, dtype: tl.constexpr):
    """float32 x in `dtype`, rounded to nearest even."""
    if INTERPRETING and dtype == tl.bfloat16:
        bits = x.to(tl.uint32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        rounded = bits.to(tl.float32, bitcast=True)
        x = tl.where(x == x, rounded, x)
    return x.to(dtype)
