from pfgm.sampling.integrate import encode as encode
from pfgm.sampling.likelihood import log_likelihood as log_likelihood
from pfgm.sampling.paths import trajectories as trajectories
from pfgm.sampling.solvers import heights as heights
