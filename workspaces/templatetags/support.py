"""Whom to contact about what only operators can do. A tag, because pages for errors have no context processors."""

from urllib.parse import quote

from django import template
from django.conf import settings
from django.utils.html import format_html

register = template.Library()


@register.simple_tag
def support_contact() -> str:
    """Render a link to SUPPORT_CONTACT, for use after a verb such as "contact", or words if there is none."""
    contact: str = settings.SUPPORT_CONTACT
    if not contact:
        return "the people who run this installation"
    url = contact if contact.startswith("https://") else f"mailto:{quote(contact, safe='@')}"
    return format_html('<a href="{}">{}</a>', url, contact)
