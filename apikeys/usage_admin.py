"""The usage of a key or a workspace, on its page in the admin."""

from typing import Any

from django.http import HttpRequest, HttpResponse

from apikeys.charts import ChosenUsage
from apikeys.models import ApiKey, ApiKeyUsageQuerySet, Counts

BUSIEST = 10  # keys, or workspaces, in a list of the busiest


def busiest_keys(usage: ApiKeyUsageQuerySet) -> list[tuple[ApiKey, Counts]]:
    """Return the keys with the most requests, and their counts."""
    counts = usage.busiest_keys(BUSIEST)
    keys = ApiKey.objects.with_secrets().select_related("workspace").in_bulk([pk for pk, _ in counts])
    return [(keys[pk], numbers) for pk, numbers in counts]


class UsageMixin:
    """For the ModelAdmin of keys or workspaces: adds an object's usage to the context of its form.

    The form's template must extend `admin/change_form_with_usage.html`, which shows it.
    """

    def usage_of(self, obj: Any) -> ApiKeyUsageQuerySet:
        """Return the rows of an object. They must be filtered by its workspace, with which the index begins."""
        raise NotImplementedError

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        if obj is not None:
            context["usage"] = ChosenUsage.of(self.usage_of(obj), request.GET)
        response: HttpResponse = super().render_change_form(  # type: ignore[misc]  # a mixin
            request, context, add, change, form_url, obj
        )
        return response
