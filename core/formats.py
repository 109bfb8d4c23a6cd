"""The JSON of the API: DRF's parser and renderer on orjson, and content negotiation."""

from codecs import BOM_UTF8
from collections.abc import Iterable
from typing import Any

import orjson
from rest_framework import exceptions, status
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

MAX_BODY_BYTES = 1024 * 1024


class BodyTooLarge(exceptions.APIException):
    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = "The body is larger than 1 MiB."


class OrjsonRenderer(BaseRenderer):
    """Renders JSON. Times are RFC 3339 in UTC; naive times, such as those that SQLite's driver returns, are UTC."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        return b"" if data is None else orjson.dumps(data, option=orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z)


class QuickNegotiation(DefaultContentNegotiation):
    """DRF's content negotiation, which does not parse `Accept` if the header obviously allows the first renderer."""

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        """Return the renderer and its media type. Raise `NotAcceptable`."""
        first = next(iter(renderers))
        if not format_suffix and request.META.get("HTTP_ACCEPT", "*/*") in ("*/*", first.media_type):
            return first, first.media_type
        chosen: tuple[BaseRenderer, str] = super().select_renderer(request, renderers, format_suffix)
        return chosen


class EncodedBody(exceptions.APIException):
    status_code = status.HTTP_415_UNSUPPORTED_MEDIA_TYPE
    default_detail = "Send the body uncompressed, without a Content-Encoding."


class OrjsonParser(BaseParser):
    """Parses strict JSON (RFC 8259): UTF-8, no NaN, no lone surrogates, at most `MAX_BODY_BYTES` bytes, uncompressed.

    Ignores a byte order mark, as the RFC allows. Raises `ParseError`, `BodyTooLarge` or `EncodedBody`.
    """

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        headers = parser_context["request"].META if parser_context else {}
        if headers.get("HTTP_CONTENT_ENCODING", "").lower() not in ("", "identity"):
            raise EncodedBody
        body = stream.read(MAX_BODY_BYTES + 1)
        if len(body) > MAX_BODY_BYTES:
            raise BodyTooLarge
        try:
            return orjson.loads(body.removeprefix(BOM_UTF8))
        except orjson.JSONDecodeError as error:
            raise exceptions.ParseError("The body is not well-formed JSON.") from error
