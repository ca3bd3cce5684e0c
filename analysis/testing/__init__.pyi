from analysis.testing.studies import study_yaml as study_yaml
from analysis.testing.studies import synthetic_frame as synthetic_frame
from analysis.testing.studies import write_study as write_study
from analysis.testing.truth import Effect as Effect
from analysis.testing.truth import Truth as Truth
