"""Writing the folders of other tools, and reading those that only the parallel plan explains."""
