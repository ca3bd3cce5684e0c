from pfgm.field.analytic import PointCharges as PointCharges
from pfgm.field.empirical import log_sphere_area as log_sphere_area
from pfgm.field.empirical import mean_source as mean_source
from pfgm.field.empirical import normalized_target as normalized_target
from pfgm.field.empirical import true_field as true_field
from pfgm.field.lines import electric_field as electric_field
from pfgm.field.lines import electric_lines as electric_lines
from pfgm.field.raw_target import raw_target_variance as raw_target_variance
