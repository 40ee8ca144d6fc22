"""A trained model in a folder that processes map and share."""

from mtaw_fast.bundle.bundle import Bundle, bundle_lock, refuse_existing

__all__ = ["Bundle", "bundle_lock", "refuse_existing"]
