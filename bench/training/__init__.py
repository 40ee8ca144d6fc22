"""The loss against its peers, and an epoch."""
