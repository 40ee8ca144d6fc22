"""Groups of weights with gradients, and PyTorch's own AdamW and clipping on the same."""

from __future__ import annotations

import torch
from torch import Tensor

from mtaw_fast.kernels.adam import AdamGroup, AdamSettings, adam_step

STEPS = 4
SETTINGS = [
    AdamSettings(),
    AdamSettings(clip_norm=2.0),
    AdamSettings(beta1=0.0, beta2=0.5, eps=1e-3, weight_decay=0.1, clip_norm=0.5),
]
RATES = [1e-3, 5e-3, 0.0, 2e-3]


def rounds(sizes: list[int], dtype: torch.dtype, device: torch.device, seed: int = 0) -> list[list[Tensor]]:
    """rounds[0] are starting weights, the others a gradient of every group, of very different lengths."""
    generator = torch.Generator().manual_seed(seed)
    lengths = [1.0, 3.0, 0.01, 1.0, 1e-6][: STEPS + 1]
    return [
        [(length * torch.randn(size, generator=generator, dtype=torch.float64)).to(device, dtype) for size in sizes]
        for length in lengths
    ]


def by_torch(problem: list[list[Tensor]], rates: list[float], settings: AdamSettings) -> list[Tensor]:
    """Weights, first and second moments of every group after a step a gradient, by torch.optim."""
    weights = [value.clone().requires_grad_() for value in problem[0]]
    optimizer = torch.optim.AdamW(
        weights, betas=(settings.beta1, settings.beta2), eps=settings.eps, weight_decay=settings.weight_decay
    )
    for rate, gradients in zip(rates, problem[1:], strict=False):
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient.clone()
        if settings.clip_norm > 0:
            torch.nn.utils.clip_grad_norm_(weights, settings.clip_norm)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
    moments = [optimizer.state[weight][name] for name in ("exp_avg", "exp_avg_sq") for weight in weights]
    return [value.detach().double() for value in (*weights, *moments)]


def by_op(
    problem: list[list[Tensor]],
    rates: list[float],
    settings: AdamSettings,
    backend: str,
    skipped: tuple[int, ...] = (),
) -> tuple[list[Tensor], list[float], float]:
    """The same by adam_step; also the norms it gave and the count of steps. Steps in `skipped` are not to apply."""
    first = problem[0][0]
    groups = [
        AdamGroup(value.clone(), torch.empty_like(value), torch.zeros_like(value), torch.zeros_like(value))
        for value in problem[0]
    ]
    step, rate_tensor = torch.zeros((), device=first.device), torch.zeros((), device=first.device)
    norms = []
    for number, (rate, gradients) in enumerate(zip(rates, problem[1:], strict=False)):
        for group, gradient in zip(groups, gradients, strict=True):
            group.gradients.copy_(gradient)
        apply = torch.tensor(number not in skipped, device=first.device)
        norm = adam_step(groups, step, rate_tensor.fill_(rate), apply=apply, settings=settings, backend=backend)
        norms.append(norm.item())
    values = [getattr(group, name) for name in ("weights", "first_moments", "second_moments") for group in groups]
    return [value.double() for value in values], norms, step.item()
