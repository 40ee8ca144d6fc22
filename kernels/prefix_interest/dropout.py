"""Dropout masks that are a function of a seed: Philox4x32-10 (Salmon et al., SC 2011), the same on every device.

The factor of channel c of click t (its row in the packed batch) is 0 where the upper 24 bits of word c % 4 of
Philox(counter = (t, c // 4, stream, 0), key = seed) are below round(probability * 2^24), else
1 / (1 - probability).
"""

from __future__ import annotations

import torch
from torch import Tensor

CLICK_STREAM = 0  # the embedded clicks x_t
FFN_STREAM = 1  # the FFN's output

_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_KEY_STEPS = 0x9E3779B9, 0xBB67AE85
_ROUNDS = 10
_LOW = 0xFFFFFFFF


def threshold(probability: float) -> int:
    """What the upper 24 bits of a word are compared with; below it the element is dropped."""
    return round(probability * (1 << 24))


def keep_factor(probability: float) -> float:
    """What elements that are kept are multiplied by."""
    return 1 / (1 - probability)


def dropout_mask(seed: Tensor, stream: int, shape: tuple[int, int], probability: float) -> Tensor:
    """float32[T, d] of 0 and 1 / (1 - probability), on the seed's device. seed: int64[1]."""
    rows, channels = shape
    click = torch.arange(rows, device=seed.device)[:, None]
    group = torch.arange(-(-channels // 4), device=seed.device)[None, :]
    words = torch.stack(philox((click, group, torch.full_like(group, stream), torch.zeros_like(group)), seed), dim=-1)
    kept = (words.flatten(1)[:, :channels] >> 8) >= threshold(probability)
    return kept * torch.tensor(keep_factor(probability), dtype=torch.float32)


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], seed: Tensor) -> list[Tensor]:
    """The four words of Philox4x32-10, in 0..2^32 - 1: int64 tensors. counter: the same, broadcast; seed: int64[1]."""
    c = list(torch.broadcast_tensors(*counter))
    key = [seed & _LOW, (seed >> 32) & _LOW]
    for _ in range(_ROUNDS):
        # The product's 64 bits, whatever the sign: the shift's copies of the sign are masked off.
        product = [multiplier * word for multiplier, word in zip(_MULTIPLIERS, c[::2], strict=True)]
        high = [(p >> 32) & _LOW for p in product]
        c = [high[1] ^ c[1] ^ key[0], product[1] & _LOW, high[0] ^ c[3] ^ key[1], product[0] & _LOW]
        key = [(k + step) & _LOW for k, step in zip(key, _KEY_STEPS, strict=True)]
    return c
