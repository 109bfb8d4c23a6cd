"""Whom to contact about what only operators can do. A tag, because some error pages are rendered without a request."""

from django import template
from django.conf import settings
from django.utils.html import format_html

from core.sites import contact_url

register = template.Library()


@register.simple_tag
def support_contact() -> str:
    """Render a link to SUPPORT_CONTACT, for use after a verb such as "contact", or words if there is none."""
    contact: str = settings.SUPPORT_CONTACT
    if not contact:
        return "the people who run this installation"
    return format_html('<a href="{}">{}</a>', contact_url(contact), contact)
