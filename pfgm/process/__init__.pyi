from pfgm.process.base import Process as Process
from pfgm.process.make import make_process as make_process
from pfgm.process.resolve import resolve_sampler as resolve_sampler
from pfgm.process.resolve import resolve_train as resolve_train
from pfgm.process.training_points import perturb as perturb
from pfgm.registry import PROCESSES as PROCESSES
