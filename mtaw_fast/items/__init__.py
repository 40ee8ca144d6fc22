"""The item table: what is known about each item besides its clicks, in typed columns."""

from mtaw_fast.items.changes import TableChange
from mtaw_fast.items.columns import KINDS, Column
from mtaw_fast.items.content_vectors import ContentVectors
from mtaw_fast.items.frame import ItemFrame
from mtaw_fast.items.report import ItemsReport
from mtaw_fast.items.table import ItemTable

__all__ = ["KINDS", "Column", "ContentVectors", "ItemFrame", "ItemTable", "ItemsReport", "TableChange"]
