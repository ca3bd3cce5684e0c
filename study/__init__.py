"""A study: search.yaml → plan → Ray Tune trials → rows. ``import study`` is cheap; its names load torch when first used."""

from importlib import import_module
from typing import TYPE_CHECKING

from study.terminal import guard_start

if TYPE_CHECKING:
    from study.config import StudyConfig as StudyConfig
    from study.config import load_study_config as load_study_config
    from study.plan import make_plan as make_plan
    from study.yaml_source import ConfigError as ConfigError

_HOMES = {"ConfigError": "yaml_source", "StudyConfig": "config", "load_study_config": "config", "make_plan": "plan"}
__all__ = ["ConfigError", "StudyConfig", "load_study_config", "make_plan"]

guard_start()


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"study.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'study' has no attribute '{name}'")
