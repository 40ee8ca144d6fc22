"""AdamW with global clipping whose every input is on the device."""

from mtaw_fast.kernels.adam.interface import adam_step, choose_backend
from mtaw_fast.kernels.adam.request import AdamGroup, AdamRequest, AdamSettings

__all__ = ["AdamGroup", "AdamRequest", "AdamSettings", "adam_step", "choose_backend"]
