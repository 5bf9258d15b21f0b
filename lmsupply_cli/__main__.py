"""Where the process begins: Ctrl-C is quiet even while the rest is still being imported."""

import sys


def main() -> int:
    try:
        from lmsupply_cli.cli.app import main as run

        return run()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
