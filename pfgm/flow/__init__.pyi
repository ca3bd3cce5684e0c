from pfgm.flow.base import Flow as Flow
from pfgm.flow.checkpoint import load_field as load_field
from pfgm.flow.edm.field import from_edm as from_edm
from pfgm.flow.edm.field import from_pfgmpp as from_pfgmpp
from pfgm.flow.exact import ExactField as ExactField
from pfgm.flow.poisson_flow import from_poisson_flow as from_poisson_flow
from pfgm.flow.trained import Field as Field
