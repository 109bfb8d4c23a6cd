"""What a quota's row has, and how it changes."""

from collections.abc import Iterator, Sequence
from itertools import chain, islice, repeat
from typing import NamedTuple

from workspaces.quota.slots import Run, Slots, slot_length, totals_of
from workspaces.quota.windows import MAX_EXACT, SECOND, Limits, Usage, usage_of


class Row(NamedTuple):
    """The admissions of a subject.

    Without slots, `admissions` are their times, newest first, as many as the larger limit needs. With slots, it is only
    the newest one, `layout` are the numbers of the limits, see `layout_of`, and the totals are those of their slots.
    """

    admissions: Sequence[int] = ()
    layout: Sequence[int] | None = None
    main_totals: Sequence[int] | None = None
    burst_totals: Sequence[int] | None = None

    def is_current(self, limits: Limits, now: int) -> bool:
        """Return whether a request can be decided with this row as it is."""
        return self.layout == layout_of(limits) and (not self.admissions or self.admissions[0] <= now)

    def converted(self, limits: Limits, now: int) -> "Row":
        """Return a current row: no admission counts for a shorter time than in this one, and none is in the future."""
        runs = list(self._runs(now))
        layout = layout_of(limits)
        if layout is None:
            times = chain.from_iterable(repeat(time, count) for time, count in runs)
            return Row(list(islice(times, max_admissions(limits))))
        newest = runs[0][0] if runs else now
        lengths = [slot_length(limit.window) for limit in limits]
        main_totals, burst_totals = (totals_of(runs, newest // length, length) for length in lengths)
        return Row([newest] if runs else [], layout, main_totals, burst_totals)

    def usages(self, limits: Limits, now: int) -> list[Usage]:
        """Return the usage of each limit. The row must be current."""
        if self.layout is None:
            return [usage_of(self.admissions, now, limit) for limit in limits]
        return [slots.usage(now, limit) for slots, limit in zip(self._slots(), limits, strict=True)]

    def recorded(self, limits: Limits, now: int) -> "Row":
        """Return the row with one more admission. The row must be current."""
        if self.layout is None:
            return Row([now, *self.admissions[: max_admissions(limits) - 1]])
        return Row([now], self.layout, *(slots.recorded(now) for slots in self._slots()))

    def _slots(self) -> list[Slots]:
        """Return the slots of each limit, or nothing without slots. The newest slot is that of the newest admission."""
        if self.layout is None or self.main_totals is None or self.burst_totals is None:
            return []
        newest = self.admissions[0] if self.admissions else 0
        _, seconds, _, burst_seconds = self.layout
        return [
            Slots(length, newest // length, totals)
            for length, totals in (
                (slot_length(seconds * SECOND), self.main_totals),
                (slot_length(burst_seconds * SECOND), self.burst_totals),
            )
        ]

    def _runs(self, now: int) -> Iterator[Run]:
        """Yield all known admissions, newest first. Each time is the earliest that is certainly not too early."""
        known, latest = 0, now
        # Each source has the newest admissions. The burst's slots are shorter, so they are more precise.
        for source in (zip(self.admissions, repeat(1)), *(slots.runs() for slots in reversed(self._slots()))):
            covered = 0
            for time, count in source:
                latest = min(latest, time)
                covered += count
                if covered > known:
                    yield latest, covered - known
                    known = covered


def layout_of(limits: Limits) -> list[int] | None:
    """Return the numbers of limits that need slots, or None. A row in another layout must be converted."""
    if max_admissions(limits) <= MAX_EXACT:
        return None
    return [number for limit in limits for number in (limit.requests, limit.seconds)]


def max_admissions(limits: Limits) -> int:
    """Return how many times a row without slots keeps."""
    return max(limit.requests for limit in limits)
