"""`lmsupply` alone: the five things to do next."""

from __future__ import annotations


def welcome() -> str:
    return """lmsupply runs language models on your own machine.

  lmsupply run "How do I download a model?"   ask the built-in guide, which knows lmsupply
  lmsupply hw                                 check your hardware
  lmsupply models                             list models and their licenses
  lmsupply pull phi-4-mini                    download one
  lmsupply chat phi-4-mini                    chat with it

lmsupply --help lists the commands.
"""
