"""`python -m reefleet`: the same door as the `reefleet` command."""

import sys

from reefleet.cli import main

if __name__ == "__main__":
    sys.exit(main())
