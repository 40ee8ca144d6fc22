"""The indexes against other libraries' over one catalog."""
