"""The load generator and its checks of the HTTP service."""
