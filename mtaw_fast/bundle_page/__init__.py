"""An HTML page about a bundle: its data, training, metrics and example recommendations."""

from mtaw_fast.bundle_page.page import write_report

__all__ = ["write_report"]
