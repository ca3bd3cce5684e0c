"""One trial at a time trains a field, also among the studies that share a cluster.

A named actor remembers who trains which field. A holder renews its claim; a claim that is not renewed ends. The actor belongs
to the first driver and ends with it. The next trial then makes a new one, which learns of the other claims when their holders
renew them. Results never depend on a claim: a field is named by what it is trained from, and the first published one is kept.
"""

from __future__ import annotations

import functools
import threading
import time
from typing import Any

import ray

from study.rows.storage import Place

NAME, NAMESPACE = "training-leases", "pfgm-study"
TTL_S, RENEW_S, ANSWER_S = 30.0, 5.0, 20.0


class Claims:
    """Who trains what, until when; seconds by this process's clock."""

    def __init__(self) -> None:
        self.held: dict[str, tuple[str, float]] = {}
        self.cleaned = time.monotonic()

    def acquire(self, key: str, holder: str) -> bool:
        """Claim, or renew the claim on, one field; False while another holds it."""
        now = time.monotonic()
        if now - self.cleaned > TTL_S:  # not at every call: thousands of holders renew theirs every few seconds
            self.held, self.cleaned = {k: (who, end) for k, (who, end) in self.held.items() if end > now}, now
        who, end = self.held.get(key, (holder, now))
        if who != holder and end > now:
            return False
        self.held[key] = (holder, now + TTL_S)
        return True

    def release(self, key: str, holder: str) -> None:
        """Give a claim back."""
        if self.held.get(key, ("", 0.0))[0] == holder:
            del self.held[key]


class TrainingLease:
    """The claims of one trial on fields of one storage; ``holder`` is the same for all tries of the trial."""

    def __init__(self, storage: Place, holder: str) -> None:
        self.storage, self.holder = storage, holder
        self._ended = threading.Event()

    def acquire(self, train_id: str) -> bool:
        """Return whether the field is now ours to train; the claim is renewed until `release`."""
        if not self._ask("acquire", train_id):
            return False
        self._ended = threading.Event()
        threading.Thread(target=self._renew, args=(train_id, self._ended), daemon=True).start()
        return True

    def release(self, train_id: str) -> None:
        """Let others train it."""
        self._ended.set()
        self._ask("release", train_id)

    def _renew(self, train_id: str, ended: threading.Event) -> None:
        while not ended.wait(RENEW_S):
            self._ask("acquire", train_id)

    def _ask(self, what: str, train_id: str) -> bool:
        """Ask the actor; one that died with the driver that made it is made anew. Without an answer, the work is done twice."""
        for _ in range(2):
            try:
                answer = getattr(claims_actor(), what).remote(f"{self.storage.uri}/{train_id}", self.holder)
                return bool(ray.get(answer, timeout=ANSWER_S)) or what == "release"
            except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError, ValueError):
                claims_actor.cache_clear()
                time.sleep(0.2)
        return True


@functools.cache
def claims_actor() -> Any:
    """The actor that all studies on a cluster ask; it lives as long as the process that asked first, mostly a driver."""
    options = {"name": NAME, "namespace": NAMESPACE, "get_if_exists": True, "num_cpus": 0}
    free = {"scheduling_strategy": "DEFAULT"}  # of the trial's placement group, which ends with the trial
    return ray.remote(Claims).options(**options, **free).remote()
