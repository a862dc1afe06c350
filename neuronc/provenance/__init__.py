"""Where an artifact comes from: an in-toto statement, a CycloneDX BOM, and their signature."""
