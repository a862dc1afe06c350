"""The compile jobs of a build on a Ray cluster; programs travel through the store."""
