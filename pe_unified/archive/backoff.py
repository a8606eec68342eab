"""Delays before retries."""

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Exponential back-off with jitter, so that simultaneous failures are not retried together.

    Half of each delay is fixed and half is random ("equal jitter", M. Brooker, Exponential Backoff
    And Jitter, AWS Architecture Blog, 2015).

    Attributes:
        first_s: the mean delay after the first failure is three quarters of it.
        most_s: the longest delay.
        give_up_h: hours of waiting between retries, added up, after which they stop.
    """

    first_s: float = 10.0
    most_s: float = 3600.0
    give_up_h: float = 72.0

    def delay_s(self, failures: int, rng: random.Random | None = None) -> float:
        """Seconds to wait after this number of failures, at least one."""
        longest = self._longest_s(failures)
        return longest / 2 + (rng or random).uniform(0, longest / 2)

    def given_up(self, failures: int) -> bool:
        """Whether the mean delays after this number of failures add up to more than ``give_up_h``.

        What waited before its first failure, and how long, does not count.
        """
        waited = sum(0.75 * self._longest_s(each) for each in range(1, failures + 1))
        return waited > 3600 * self.give_up_h

    def _longest_s(self, failures: int) -> float:
        return min(self.most_s, self.first_s * 2.0 ** min(failures - 1, 60))
