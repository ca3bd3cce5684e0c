from study.config.study import StudyConfig as StudyConfig
from study.config.yaml_source import ConfigError as ConfigError
from study.load import load_study_config as load_study_config
