"""One model trained by a group of processes that torchrun started: batches shared out, the item table cut by rows.

Nothing outside of this package uses torch.distributed, and a training of one process imports nothing of it.
"""

from mtaw_fast.training.group.channel import GroupError
from mtaw_fast.training.group.members import Group, Peak, joined

__all__ = ["Group", "GroupError", "Peak", "joined"]
