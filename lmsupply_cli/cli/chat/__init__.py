from lmsupply_cli.cli.chat.command import chat as chat
