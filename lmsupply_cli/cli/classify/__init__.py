from lmsupply_cli.cli.classify.command import classify as classify
