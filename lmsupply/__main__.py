"""`python -m lmsupply`: the command."""

import sys

from lmsupply_cli.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
