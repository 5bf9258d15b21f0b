from lmsupply_cli.cli.run.command import run as run
