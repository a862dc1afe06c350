"""Files beside ``manifest.json`` that describe an artifact and so are in none of its digests."""

PROVENANCE_FILE = "provenance.json"
"""An in-toto statement, v1."""

ENVELOPE_FILE = "provenance.dsse.json"
"""The same bytes in a DSSE envelope, where the artifact is signed."""

BOM_FILE = "bom.cdx.json"
"""A CycloneDX 1.6 ML-BOM."""

BESIDE_MANIFEST = (PROVENANCE_FILE, ENVELOPE_FILE, BOM_FILE)
