"""One model trained by a group of processes that torchrun started: shared batches, the item table split by rows.

Only this package uses torch.distributed, and a training in one process does not import it.
"""

from mtaw_fast.training.group.channel import GroupError
from mtaw_fast.training.group.members import Group, Peak, joined

__all__ = ["Group", "GroupError", "Peak", "joined"]
