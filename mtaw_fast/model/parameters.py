"""Name and shape of every array that MTAW learns, without PyTorch."""

from __future__ import annotations

from mtaw_fast.config import Config


def parameter_shapes(config: Config, n_items: int) -> dict[str, tuple[int, ...]]:
    """The learned arrays of MTAW over N items, all float32; a linear layer is weight[out, in].

    Parameters
    ----------
    config : Config
        Gives d, the number of position rows, and whether `recent` is learned.
    n_items : int
        N, the size of the catalog.

    Returns
    -------
    dict of str to tuple of int
        Shape by name, in the order of the model's layers.
    """
    d = config.model.embedding_dim
    recent: dict[str, tuple[int, ...]] = {"recent": (2,)} if config.model.recent_weight > 0 else {}
    return {
        "item_embedding": (n_items, d),
        "position_embedding": (config.model.max_positions, d),
        "itl_query_weight": (d, d),
        "itl_query_bias": (d,),
        "ffn_in_weight": (d, d),
        "ffn_in_bias": (d,),
        "ffn_out_weight": (d, d),
        "ffn_out_bias": (d,),
        "norm_weight": (d,),
        "norm_bias": (d,),
        "iel_query_weight": (d, d),
        "iel_query_bias": (d,),
        **recent,
    }
