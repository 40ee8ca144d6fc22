"""How time and memory grow with the catalog, the log, a session, a batch and the threads."""
