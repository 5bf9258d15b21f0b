from lmsupply_cli.cli.show.command import show as show
