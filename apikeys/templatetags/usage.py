"""How templates show numbers of requests."""

from django import template

register = template.Library()


@register.filter
def number(value: int) -> str:
    """Return the number with thousands separators, such as `12,400`."""
    return f"{value:,}"
