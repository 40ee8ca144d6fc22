"""Prefix-sliced interest attention (ITL + IEL of MTAW) over packed sessions."""

from mtaw_fast.kernels.prefix_interest.interface import PrefixInterestWeights, prefix_interest

__all__ = ["PrefixInterestWeights", "prefix_interest"]
