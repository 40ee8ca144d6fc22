"""Matrix products and roundings that give the same values compiled and interpreted.

Triton's interpreter (TRITON_INTERPRET=1) multiplies bf16 tiles as if their bits were integers, and its cast
from float32 to bf16 truncates where the hardware rounds to nearest even. `dot` and `narrow` correct this under
the interpreter, and are the plain operations when compiled.
"""

import triton
import triton.language as tl

INTERPRETING = tl.constexpr(triton.knobs.runtime.interpret)


@triton.jit
def dot(a, b, accumulator, PRECISION: tl.constexpr = "ieee"):
    """accumulator + a b: a [M, K], b [K, N] of one dtype, accumulator float32[M, N].

    PRECISION matters for float32 operands alone. 'ieee' multiplies them as they are. 'tf32x3' splits each into two TF32
    parts for tensor cores and skips the product of the two lower parts. The error of splitting and skipping is at most
    3 x 2^-20 |a| |b|.
    """
    if INTERPRETING:
        if PRECISION == "tf32x3":
            a_high, b_high = _tf32(a), _tf32(b)
            a_low, b_low = _tf32(a - a_high), _tf32(b - b_high)
            # In the order of the compiled code: the small products first.
            accumulator = tl.dot(a_low, b_high, accumulator, input_precision="ieee")
            accumulator = tl.dot(a_high, b_low, accumulator, input_precision="ieee")
            return tl.dot(a_high, b_high, accumulator, input_precision="ieee")
        a = a.to(tl.float32)  # exact, and so are the products of two bf16 values in float32
        b = b.to(tl.float32)
    return tl.dot(a, b, accumulator, input_precision=PRECISION)


@triton.jit
def _tf32(x):
    """float32 x cut to TF32's 10 bits of mantissa, as tensor cores read it."""
    return (x.to(tl.uint32, bitcast=True) & 0xFFFFE000).to(tl.float32, bitcast=True)


@triton.jit
def narrow(x, dtype: tl.constexpr):
    """float32 x in `dtype`, rounded to nearest even."""
    if INTERPRETING and dtype == tl.bfloat16:
        bits = x.to(tl.uint32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        rounded = bits.to(tl.float32, bitcast=True)
        x = tl.where(x == x, rounded, x)
    return x.to(dtype)
