from study.plan.make import make_plan as make_plan
from study.plan.trial import Trial as Trial
