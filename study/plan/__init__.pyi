from study.plan.make import Trial as Trial
from study.plan.make import make_plan as make_plan
