"""`/.well-known/security.txt` (RFC 9116): where to report a vulnerability."""

from datetime import timedelta

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.views.generic import View

from core.sites import contact_url

VALIDITY = timedelta(days=90)  # from the start of today in UTC; RFC 9116, 2.5.5, recommends less than a year


class SecurityTxtView(View):
    """Returns the contact in SECURITY_CONTACT, or 404 if there is none."""

    def get(self, request: HttpRequest) -> HttpResponse:
        if not settings.SECURITY_CONTACT:
            raise Http404
        today = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
        fields = {
            "Contact": contact_url(settings.SECURITY_CONTACT),
            "Expires": (today + VALIDITY).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "Preferred-Languages": "en",
            "Canonical": settings.BASE_URL + reverse("security-txt"),
            "Policy": settings.BASE_URL + reverse("document", args=["security"]),
        }
        lines = "".join(f"{name}: {value}\n" for name, value in fields.items())
        return HttpResponse(lines, content_type="text/plain; charset=utf-8")
