"""A bundle: a trained model in a folder, which processes map into memory and share."""

from mtaw_fast.bundle.bundle import Bundle
from mtaw_fast.bundle.writer import bundle_lock, refuse_existing
from mtaw_fast.model.model import Model

__all__ = ["Bundle", "Model", "bundle_lock", "refuse_existing"]
