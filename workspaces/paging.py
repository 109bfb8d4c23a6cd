"""Pages of rows, newest first. A cursor is the id of the last row of a page: new rows don't shift the next one."""

from typing import Generic, NamedTuple, TypeVar

from django.db.models import Model, QuerySet

M = TypeVar("M", bound=Model)


class CursorPage(NamedTuple, Generic[M]):
    """The rows of a page, and the cursor of the next one, or None on the last page."""

    rows: list[M]
    next_cursor: str | None


def page_after(queryset: QuerySet[M], cursor: str, limit: int) -> CursorPage[M]:
    """Return at most `limit` rows with ids before `cursor`, or the newest rows if it is empty. One query."""
    if cursor:
        queryset = queryset.filter(pk__lt=cursor)
    rows = list(queryset.order_by("-pk")[: limit + 1])
    return CursorPage(rows[:limit], rows[limit - 1].pk if len(rows) > limit else None)
