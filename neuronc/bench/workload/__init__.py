"""Which requests a benchmark makes, how long they are, and when they arrive."""
