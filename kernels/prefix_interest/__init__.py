"""Prefix-sliced interest attention (ITL + IEL of MTAW) over packed sessions."""

from mtaw_fast.kernels.prefix_interest.interface import choose_backend, prefix_interest
from mtaw_fast.kernels.prefix_interest.request import InterestRequest, PrefixInterestWeights
from mtaw_fast.kernels.prefix_interest.tiles import Tiles

__all__ = ["InterestRequest", "PrefixInterestWeights", "Tiles", "choose_backend", "prefix_interest"]
