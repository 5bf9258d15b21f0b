"""`lmsupply` alone: the five things to do next."""

from __future__ import annotations


def welcome() -> str:
    return """lmsupply runs language models on your own machine.

  lmsupply run "How do I download a model?"   ask the built-in guide, which knows lmsupply
  lmsupply hw                                 see what this machine is
  lmsupply models                             see which models there are, and their licenses
  lmsupply pull phi-3.5                       download one
  lmsupply chat phi-3.5                       talk with it

lmsupply --help lists the commands.
"""
