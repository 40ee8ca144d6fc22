"""Adaptive-weight loss over the softmax of the whole catalog."""

from mtaw_fast.kernels.aw_loss.interface import aw_loss, choose_backend
from mtaw_fast.kernels.aw_loss.slices import catalog_sums, loss_of_sums

__all__ = ["aw_loss", "catalog_sums", "choose_backend", "loss_of_sums"]
