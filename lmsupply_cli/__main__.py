import sys

from lmsupply_cli.cli.app import main

sys.exit(main())
