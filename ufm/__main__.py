"""`python -m ufm` is the command `ufm`."""

import sys

from ufm.cli import main

if __name__ == "__main__":
    sys.exit(main())
