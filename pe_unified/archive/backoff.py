"""When to try again."""

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Exponential back-off with jitter, so that what failed together does not come back together.

    Half of each delay is fixed and half drawn ("equal jitter", M. Brooker, Exponential Backoff And
    Jitter, AWS Architecture Blog, 2015).

    Attributes:
        first_s: the mean delay after the first failure is three quarters of it.
        most_s: no delay is longer.
        give_up_h: hours after which a thing is given up.
    """

    first_s: float = 10.0
    most_s: float = 3600.0
    give_up_h: float = 72.0

    def delay_s(self, failures: int, rng: random.Random | None = None) -> float:
        """Seconds to wait after so many failures, of which there is at least one."""
        whole = min(self.most_s, self.first_s * 2.0 ** min(failures - 1, 60))
        return whole / 2 + (rng or random).uniform(0, whole / 2)

    def given_up(self, since: float, now: float) -> bool:
        """Whether what began at ``since`` is not tried again at ``now``, both seconds."""
        return now - since > 3600 * self.give_up_h
