"""Error reports without secrets, for DEBUG's error page. With DEBUG off, errors are logged; nothing is emailed."""

import re
from types import FrameType
from typing import Any

from django.core.exceptions import BadRequest, SuspiciousOperation
from django.http import HttpRequest, QueryDict
from django.template.loader import render_to_string
from django.utils.safestring import SafeString
from django.views.debug import ExceptionReporter, SafeExceptionReporterFilter

from core.logs import redact


class ReportFilter(SafeExceptionReporterFilter):
    """Hides all request values. Django's filter hides only those marked as sensitive, and only while DEBUG is off."""

    hidden_settings = re.compile(
        rf"{SafeExceptionReporterFilter.hidden_settings.pattern}|COOKIE|_URL\b|LOCATION|_URI\b|QUERY_STRING|REFERER",
        re.IGNORECASE,
    )

    def get_post_parameters(self, request: HttpRequest | None) -> dict[str, Any]:
        return dict.fromkeys(request.POST if request else QueryDict(), self.cleansed_substitute)

    def get_safe_cookies(self, request: HttpRequest) -> dict[str, Any]:
        return dict.fromkeys(getattr(request, "COOKIES", {}), self.cleansed_substitute)

    def get_traceback_frame_variables(self, request: HttpRequest | None, tb_frame: FrameType) -> Any:
        """Return the types of the variables, not their values: variables of libraries may contain a secret."""
        return [(name, type(value)) for name, value in tb_frame.f_locals.items()]


class Reporter(ExceptionReporter):
    """Removes the query string from reports, and redacts credentials in them.

    An invalid request is not a bug, so DEBUG too answers it with the page for a 400. Its traceback is in the log.
    """

    def get_traceback_data(self) -> dict[str, Any]:
        data: dict[str, Any] = super().get_traceback_data()
        if self.request is not None:
            data["request_GET_items"] = dict.fromkeys(self.request.GET, self.filter.cleansed_substitute).items()
            data["request_insecure_uri"] = data["request_insecure_uri"].partition("?")[0]
        return data

    def get_traceback_html(self) -> SafeString:
        if isinstance(self.exc_value, BadRequest | SuspiciousOperation):
            return render_to_string("400.html")
        return SafeString(redact(super().get_traceback_html()))

    def get_traceback_text(self) -> SafeString:
        return SafeString(redact(super().get_traceback_text()))
