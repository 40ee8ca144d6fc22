"""A trained model in a folder that processes map and share."""

from mtaw_fast.bundle.bundle import Bundle
from mtaw_fast.bundle.writer import bundle_lock, refuse_existing
from mtaw_fast.model.model import Model

__all__ = ["Bundle", "Model", "bundle_lock", "refuse_existing"]
