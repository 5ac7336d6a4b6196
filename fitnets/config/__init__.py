"""The config: every key typed once, every problem told in one message. Imports no torch; composing.py alone Hydra."""

from fitnets.config.check import check
from fitnets.config.wording import ConfigError

__all__ = ["ConfigError", "check"]
