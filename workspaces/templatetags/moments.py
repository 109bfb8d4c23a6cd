"""Relative and exact times as `<time>` elements. JavaScript converts both to the user's time zone."""

from datetime import UTC, datetime

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()

_UNITS = [("year", 365 * 86_400), ("month", 30 * 86_400), ("day", 86_400), ("hour", 3600), ("minute", 60)]


def relative(time: datetime, now: datetime) -> str:
    """Return the time relative to `now`, such as `4 minutes ago`, `in 3 months` or `just now`."""
    seconds = int((time - now).total_seconds())
    for unit, length in _UNITS:
        count = abs(seconds) // length
        if count:
            amount = f"{count} {unit}{'' if count == 1 else 's'}"
            return f"in {amount}" if seconds > 0 else f"{amount} ago"
    return "in a moment" if seconds > 0 else "just now"


def exact(time: datetime) -> str:
    """Return the time in UTC, such as `3 Jan 2026, 08:30 UTC`."""
    return f"{time.astimezone(timezone.get_default_timezone()):%-d %b %Y, %H:%M} UTC"


@register.simple_tag
def moment(time: datetime) -> SafeString:
    """Render a `<time>` element with the relative time, and the exact time as its title."""
    return format_html(
        '<time datetime="{}" title="{}" data-moment="relative">{}</time>',
        time.isoformat(timespec="seconds"),
        exact(time),
        relative(time, timezone.now()),
    )


@register.simple_tag
def exact_moment(time: datetime) -> SafeString:
    """Render a `<time>` element with the exact time, to the minute."""
    return format_html(
        '<time datetime="{}" data-moment="exact">{}</time>', time.isoformat(timespec="seconds"), exact(time)
    )


@register.filter
def soon(time: datetime) -> str:
    """Return a time in the future relative to now: `today`, `tomorrow` (both in UTC), or such as `in 3 days`."""
    now = timezone.now()
    days = max(0, (time.astimezone(UTC).date() - now.astimezone(UTC).date()).days)  # it may have passed meanwhile
    return ("today", "tomorrow")[days] if days < 2 else relative(time, now)


@register.filter
def duration(seconds: int) -> str:
    """Return a window's length for use after "last", such as `15 minutes`, `minute` or `2 hours`."""
    for unit, length in _UNITS:
        if seconds >= length and seconds % length == 0:
            count = seconds // length
            return unit if count == 1 else f"{count} {unit}s"
    return "second" if seconds == 1 else f"{seconds} seconds"
