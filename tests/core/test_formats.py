"""Content negotiation for views with several formats. The API's own views offer only JSON."""

from typing import Any

import pytest
from django.test import RequestFactory
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core.formats import OrjsonRenderer


class CsvRenderer(BaseRenderer):
    media_type = "text/csv"
    format = "csv"

    def render(self, data: str, *_: Any) -> str:
        return data


class ReportView(APIView):
    authentication_classes = ()
    permission_classes = ()
    renderer_classes = (CsvRenderer, OrjsonRenderer)

    def get(self, request: Request, format: str | None = None) -> Response:
        return Response("a,b")


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (None, "text/csv"),
        ("*/*", "text/csv"),
        ("text/csv", "text/csv"),
        ("application/json", "application/json"),
        ("text/html, application/json", "application/json"),
        ("application/*", "application/json"),
    ],
)
def test_the_accept_header_chooses_the_format(accept: str | None, media_type: str) -> None:
    assert get_report(accept).render()["Content-Type"].partition(";")[0] == media_type


def test_a_format_that_the_view_lacks_is_406() -> None:
    assert get_report("application/xml").status_code == 406


def test_the_suffix_of_the_path_chooses_the_format() -> None:
    assert get_report("*/*", format="json").render()["Content-Type"] == "application/json"


def get_report(accept: str | None, **kwargs: str) -> Any:
    headers = {"Accept": accept} if accept else {}
    return ReportView.as_view()(RequestFactory().get("/", headers=headers), **kwargs)
