"""The forms in which a benchmark document leaves: each a pure function of the document."""
