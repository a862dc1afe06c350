"""Files with many builds: their cells, which of them to make here, and what came of it."""
