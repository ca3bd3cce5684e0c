"""Who trains a field: one at a time, until the claim is given back or was not renewed."""

from __future__ import annotations

import time

from study.cluster.training_lease import TTL_S, Claims


def test_one_at_a_time_trains_a_field() -> None:
    claims = Claims()
    assert claims.acquire("field", "a") and not claims.acquire("field", "b")
    assert claims.acquire("field", "a"), "it is renewed"
    claims.release("field", "b")
    assert not claims.acquire("field", "b"), "nobody gives back the claim of another"
    claims.release("field", "a")
    assert claims.acquire("field", "b") and claims.acquire("other", "a")


def test_a_claim_that_is_not_renewed_ends_and_is_forgotten() -> None:
    claims = Claims()
    claims.held = {f"field {n}": ("dead", time.monotonic() - 1.0) for n in range(100)}
    assert claims.acquire("field 0", "b") and not claims.acquire("field 0", "dead")
    claims.cleaned -= TTL_S + 1.0
    assert claims.acquire("new", "c") and set(claims.held) == {"field 0", "new"}
