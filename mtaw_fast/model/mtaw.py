"""MTAW in PyTorch: embeddings around the prefix-interest op. The parameters have the bundle's names."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtaw_fast.config import Config
from mtaw_fast.kernels.prefix_interest import PrefixInterestWeights, Tiles, prefix_interest
from mtaw_fast.model.parameters import FARTHEST, RATE, RECENT_CLICKS, SHORTEST, starting_weights


class MTAW(nn.Module):
    """Ranks a catalog of N items after every click of a session (MTAW, SIGIR 2023).

    The logits of a query o_t are scale * cos(o_t, e_i); `aw_loss` and the index compute them. With recent_weight > 0
    the query is o_t + gain * r_t: the paper's interests plus the weighted last clicks themselves.
    """

    def __init__(self, config: Config, n_items: int) -> None:
        super().__init__()
        d = config.model.embedding_dim
        self.config = config
        self.item_embedding = nn.Parameter(torch.empty(n_items, d))
        self.position_embedding = nn.Parameter(torch.empty(config.model.max_positions, d))
        self.itl_query_weight = nn.Parameter(torch.empty(d, d))
        self.itl_query_bias = nn.Parameter(torch.empty(d))
        self.ffn_in_weight = nn.Parameter(torch.empty(d, d))
        self.ffn_in_bias = nn.Parameter(torch.empty(d))
        self.ffn_out_weight = nn.Parameter(torch.empty(d, d))
        self.ffn_out_bias = nn.Parameter(torch.empty(d))
        self.norm_weight = nn.Parameter(torch.ones(d))
        self.norm_bias = nn.Parameter(torch.zeros(d))
        self.iel_query_weight = nn.Parameter(torch.empty(d, d))
        self.iel_query_bias = nn.Parameter(torch.empty(d))
        if config.model.recent_weight > 0:
            self.recent = nn.Parameter(torch.empty(2))

    def draw_weights(self, seed: int) -> MTAW:
        """Draw every weight except LayerNorm's and `recent` from U(-1/sqrt(d), 1/sqrt(d)); return self.

        The same seed gives the same bits on every device.
        """
        bound = 1 / math.sqrt(self.config.model.embedding_dim)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name == "recent":
                    parameter.copy_(torch.tensor(starting_weights(self.config)))
                elif not name.startswith("norm_"):
                    parameter.copy_(torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator))
        return self

    @torch.no_grad()
    def limit_recent(self) -> None:
        """Bring `recent` back into the range that a bundle accepts, if a step has left it."""
        if self.config.model.recent_weight > 0:
            self.recent.clamp_(-FARTHEST / RATE, FARTHEST / RATE)

    def forward(
        self,
        items: Tensor,
        offsets: Tensor,
        *,
        tiles: Tiles | None = None,
        seed: Tensor | None = None,
        compute_dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Return the query after every click of B packed sessions, float[T, d], not normalized.

        A session has at most max_session_length clicks. items: int64[T]; offsets: int64[B + 1]. tiles: the plan of the
        offsets; with it a GPU uses the fused kernels. seed: int64[1] on the model's device, fixes the dropout; without
        it torch's generator draws the dropout. compute_dtype: of `prefix_interest`.
        """
        item_vectors = functional.embedding(items, self.item_embedding)
        return self.interests(item_vectors, offsets, tiles=tiles, seed=seed, compute_dtype=compute_dtype)

    def interests(
        self,
        item_vectors: Tensor,
        offsets: Tensor,
        *,
        tiles: Tiles | None = None,
        seed: Tensor | None = None,
        compute_dtype: torch.dtype | None = None,
        masks: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Do what `forward` does after its look-up: from the clicks' rows of the item embedding, float[T, d].

        masks: the dropout factors float[T, d] of the clicks and of the FFN's output, instead of drawing them.
        """
        # With output_size a GPU need not report the length of the result to the host.
        begins = offsets[:-1].repeat_interleave(offsets.diff(), output_size=len(item_vectors))
        click_index = torch.arange(len(item_vectors), device=item_vectors.device) - begins
        interests = self._interests(item_vectors, click_index, offsets, tiles, seed, compute_dtype, masks)
        if self.config.model.recent_weight == 0:
            return interests
        gain, decay = (self.recent[0] * RATE).exp(), (self.recent[1] * RATE).sigmoid()
        return interests + gain * recent_clicks(item_vectors, click_index, decay)

    def _interests(
        self,
        item_vectors: Tensor,
        click_index: Tensor,
        offsets: Tensor,
        tiles: Tiles | None,
        seed: Tensor | None,
        compute_dtype: torch.dtype | None,
        masks: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        """Return o_t float[T, d]. click_index: int64[T], the clicks' indices in their sessions."""
        position = click_index.clamp_max(self.config.model.max_positions - 1)
        clicks = item_vectors + functional.embedding(position, self.position_embedding)
        weights = PrefixInterestWeights(*(getattr(self, name) for name in PrefixInterestWeights._fields))
        dropout = self.config.model.dropout if self.training else 0.0
        if masks is not None:
            return prefix_interest(
                clicks * masks[0], offsets, weights, tiles=tiles, ffn_dropout_mask=masks[1],
                compute_dtype=compute_dtype,
            )  # fmt: skip
        if seed is None and dropout > 0 and item_vectors.is_cuda:  # the fused kernels draw their masks from a seed
            seed = torch.randint(2**63 - 1, (1,), device=item_vectors.device)
        if seed is not None:
            return prefix_interest(
                clicks, offsets, weights, tiles=tiles, click_dropout=dropout, ffn_dropout=dropout, seed=seed,
                compute_dtype=compute_dtype,
            )  # fmt: skip
        # On a CPU torch's own dropout is several times faster than masks from a seed.
        clicks = functional.dropout(clicks, dropout, training=True)
        mask = functional.dropout(torch.ones_like(clicks), dropout, training=True) if dropout > 0 else None
        return prefix_interest(
            clicks, offsets, weights, tiles=tiles, ffn_dropout_mask=mask, compute_dtype=compute_dtype
        )


def recent_clicks(item_vectors: Tensor, click_index: Tensor, decay: Tensor) -> Tensor:
    """Return r_t float[T, d]: the mean direction of the last items, weighted 1, decay, decay^2, .. from the last back.

    r_t = sqrt(d) * sum_k decay^k u_(t-k) / sum_k decay^k over the session's last RECENT_CLICKS clicks, u = e / |e|
    (e / SHORTEST if e is shorter). Its length is at most sqrt(d), as that of l_t after its LayerNorm.

    item_vectors: float[T, d], e of every click; click_index: int64[T], the clicks' indices in their sessions.
    decay: float[], in (0, 1).
    """
    clicks, d = item_vectors.shape
    # Sums over the last `reach` clicks, doubled at every turn; the last column counts the weights.
    sums = torch.cat(
        [functional.normalize(item_vectors, dim=1, eps=SHORTEST), torch.ones_like(item_vectors[:, :1])], dim=1
    )
    reach = 1
    while reach < RECENT_CLICKS:
        earlier = functional.pad(sums, (0, 0, reach, 0))[:clicks]
        sums = sums + (click_index >= reach).to(sums.dtype)[:, None] * decay**reach * earlier
        reach *= 2
    return math.sqrt(d) * sums[:, :d] / sums[:, d:]
