"""One file for each family of encoders, named for its model_type; see README.md."""
