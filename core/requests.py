"""Hardened request parsing: the WSGI handler and its request class."""

from io import BytesIO
from typing import Any

from django.conf import settings
from django.core.files.uploadhandler import FileUploadHandler
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.http.multipartparser import MultiPartParserError
from django.utils.http import parse_header_parameters

WITHOUT_BODY = ("GET", "HEAD")


class Request(WSGIRequest):
    """A request whose headers can't make parsing fail or take long. Supports chunked bodies."""

    def __init__(self, environ: dict[str, Any]) -> None:
        if not environ.get("CONTENT_LENGTH") and environ["REQUEST_METHOD"] not in WITHOUT_BODY:
            # A chunked body. Django reads CONTENT_LENGTH bytes, and a chunked request has no Content-Length.
            body = environ["wsgi.input"].read(settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)
            environ |= {"wsgi.input": BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        super().__init__(environ)
        self.method = environ["REQUEST_METHOD"]  # case-sensitive (RFC 9110, 9.1), but Django makes it upper case

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        """Parse the Content-Type but ignore its charset: text is always UTF-8. A malformed one counts as absent.

        Django would look the charset up among Python's codecs. Some of them don't decode text, some take minutes.
        """
        try:
            self.content_type, self.content_params = parse_header_parameters(meta.get("CONTENT_TYPE", ""))
        except (ValueError, LookupError):
            self.content_type, self.content_params = "", {}
            meta["CONTENT_TYPE"] = ""

    def parse_file_upload(self, META: Any, post_data: Any) -> Any:  # noqa: N803, Django's name
        try:
            return super().parse_file_upload(META, post_data)
        except (ValueError, LookupError) as error:
            raise MultiPartParserError("A part of the form has malformed headers.") from error


class Handler(WSGIHandler):
    request_class = Request


class NoUploads(FileUploadHandler):
    """Rejects file uploads. No form accepts a file, so none is stored in memory or on disk."""

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        raise MultiPartParserError("File uploads are not supported.")
