"""Levels that were tuned for a field (``grid: tuned``), stored with it: ``fields/<train_id>/grids/<sampler point>.json``.

They follow from the field and the sampler point, so whoever finds them writes the same; the first stays. A damaged file is set
aside, and they are found anew.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence

from pfgm.config import SamplerConfig
from pfgm.flow.base import Flow
from pfgm.sampling.own_levels import TunedLevels
from study.fields.store import FieldStore
from study.plan.identity import sampler_id
from study.rows.records import canonical_json
from study.rows.storage import Place

logger = logging.getLogger(__name__)


def tuned_levels_of(
    store: FieldStore, train_id: str, flow: Flow, sampler: SamplerConfig, sources: Sequence[object] = ()
) -> TunedLevels | None:
    """The tuned levels of a sampler point, from the store or found now; None where its grid is another.

    Args:
        store: where they are kept.
        train_id: the field's name there.
        flow: the field.
        sampler: the point.
        sources: of the plug-in that its solver is from, if it is (`study.plan.identity.solved_by`).
    Raises:
        ValueError: they cannot be found.
        StorageError: they cannot be read or written.
    """
    if sampler.grid != "tuned":
        return None
    name = sampler_id(sampler.model_copy(update={"batch_size": 1}), sources)
    place = store.root / train_id / "grids" / f"{name}.json"
    known = _read(place)
    if known is not None:
        return known
    found = flow.tuned(sampler)
    assert found is not None
    if train_id in store:  # an exact field is not stored
        place.write(canonical_json(found._asdict()).encode())
    return found


def _read(place: Place) -> TunedLevels | None:
    try:
        stored = json.loads(place.read())
        return TunedLevels(float(stored["share"]), tuple(float(value) for value in stored["log_widths"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        logger.warning("%s: not the levels of a grid (%s); it is set aside", place, error)
        place.set_aside()
        return None
