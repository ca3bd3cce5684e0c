from pfgm.prior.latent import Latents as Latents
from pfgm.prior.latent import interpolate as interpolate
from pfgm.prior.latent import latents as latents
from pfgm.prior.latent import make_latents as make_latents
from pfgm.prior.law import PoissonPrior as PoissonPrior
from pfgm.prior.law import with_temperature as with_temperature
from pfgm.prior.streams import stream as stream
