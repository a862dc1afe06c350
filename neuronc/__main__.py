"""``python -m neuronc``."""

import sys

from neuronc.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
