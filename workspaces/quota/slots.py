"""Large limits: the admissions are counted in slots of 1/256 of the window, so a row has the same size for any limit.

An admission counts until the whole slot has left the window, up to one slot longer than with its exact time. So no span
admits more than the limit.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, repeat
from typing import NamedTuple

from workspaces.quota.windows import Limit, Usage

SLOTS = 256  # of a window
# A window can touch 258 slots: it may begin and end within one, and the length is rounded down. The first total is that
# before the oldest of them.
TOTALS = SLOTS + 3
LAST = TOTALS - 1

Run = tuple[int, int]  # a time, and the number of admissions at that time


def slot_length(window: int) -> int:
    return window // SLOTS


def slot_end(index: int, newest: int, length: int) -> int:
    """Return the last microsecond of the slot with this index in the totals, if the slot `newest` is the last one."""
    return (newest - LAST + index + 1) * length - 1


def usage_at(now: int, limit: Limit, used: int, leaving: int) -> Usage:
    """Return the usage at the time of the newest admission, with `used` and `leaving` as in `Slots.usage`."""
    length = slot_length(limit.window)
    return Usage(used, slot_end(leaving, now // length, length) + limit.window)


class Slots(NamedTuple):
    """The admissions of one limit. Slot `n` begins at the time `n * length`.

    `totals` has the number of admissions until the end of each slot, since some earlier moment: oldest slot first, the
    slot `newest` last.
    """

    length: int
    newest: int
    totals: Sequence[int]

    def usage(self, now: int, limit: Limit) -> Usage:
        """Return the usage of the limit at `now`, which is not before the newest slot."""
        oldest = (now - limit.window + 1) // self.length  # the oldest slot that counts
        before = min(LAST - self.newest + oldest - 1, LAST)
        used = self.totals[LAST] - self.totals[before]
        # One more request is left when this slot leaves the window: the oldest that counts and has admissions, or a
        # later one if the limit was lowered.
        leaving = bisect_right(self.totals, self.totals[LAST] - min(used, limit.requests))
        return Usage(used, slot_end(leaving, self.newest, self.length) + limit.window)

    def recorded(self, now: int) -> list[int]:
        """Return the totals with one more admission, whose slot is then the newest. The first total becomes 0."""
        passed = min(now // self.length - self.newest, LAST)
        total = self.totals[LAST]
        totals = [*self.totals[passed:LAST], *repeat(total, passed), total + 1]
        return [total - totals[0] for total in totals]

    def runs(self) -> Iterator[Run]:
        """Yield the admissions of each slot at the slot's last microsecond, newest first.

        The last run is empty: all other admissions were not after its time.
        """
        for index in range(LAST, 0, -1):
            if count := self.totals[index] - self.totals[index - 1]:
                yield slot_end(index, self.newest, self.length), count
        yield slot_end(0, self.newest, self.length), 0


def totals_of(runs: Iterable[Run], newest: int, length: int) -> list[int]:
    """Return the totals of these admissions. Those that are too old for the slots don't count."""
    counts = [0] * TOTALS
    for time, count in runs:
        index = LAST - newest + time // length
        if index > 0:
            counts[index] += count
    return list(accumulate(counts))
