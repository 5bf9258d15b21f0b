from lmsupply_cli.cli.hw.command import hw as hw
