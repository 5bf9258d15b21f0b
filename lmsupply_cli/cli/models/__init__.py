from lmsupply_cli.cli.models.command import models as models
