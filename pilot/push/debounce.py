"""Batching of changes: wait until they pause, but not for ever. The clock is passed in; nothing here waits.

Istio's rule: a batch is due after 100 ms without a change, at most 10 s after its first. A change that is known
to be complete (one transaction of `meshctl apply`) may ask to go at once and takes the pending ones along.
"""

from __future__ import annotations

QUIET = 0.1  # PILOT_DEBOUNCE_AFTER
LONGEST = 10.0  # PILOT_DEBOUNCE_MAX


class Debounce:
    """Times of one batch of changes."""

    def __init__(self, quiet: float = QUIET, longest: float = LONGEST) -> None:
        self._quiet = quiet
        self._longest = longest
        self._first = 0.0
        self._due: float | None = None
        self.merged = 0

    def note(self, now: float, *, at_once: bool = False) -> None:
        """A change came in."""
        if self._due is None:
            self._first = now
        self.merged += 1
        self._due = now if at_once else min(now + self._quiet, self._first + self._longest)

    @property
    def due(self) -> float | None:
        """When the batch is to go; None when nothing is pending."""
        return self._due

    @property
    def since(self) -> float:
        """Time of the first change of the pending batch."""
        return self._first

    def take(self, now: float) -> int:
        """Number of changes in the batch if it is due (and begin a new one), else 0."""
        if self._due is None or now < self._due:
            return 0
        merged, self.merged, self._due = self.merged, 0, None
        return merged
