"""Requests as Django reads them, but for what a sender's own words could do to the reading."""

from io import BytesIO
from typing import Any

from django.conf import settings
from django.core.files.uploadhandler import FileUploadHandler
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.http.multipartparser import MultiPartParserError
from django.utils.http import parse_header_parameters

WITHOUT_BODY = ("GET", "HEAD")


class Request(WSGIRequest):
    def __init__(self, environ: dict[str, Any]) -> None:
        if not environ.get("CONTENT_LENGTH") and environ["REQUEST_METHOD"] not in WITHOUT_BODY:
            # A body in chunks. Django reads as much as was announced, which is nothing.
            body = environ["wsgi.input"].read(settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)
            environ |= {"wsgi.input": BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        super().__init__(environ)

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        """Text is UTF-8, whatever charset is named: Django would look it up among Python's codecs, of which some decode
        no text and some take minutes. A Content-Type that can't be read is none.
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
            raise MultiPartParserError("The headers of a part can't be read.") from error


class Handler(WSGIHandler):
    request_class = Request


class NoUploads(FileUploadHandler):
    """No form here takes a file, so none is kept in memory or on the disk while somebody sends it."""

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        raise MultiPartParserError("Files can't be uploaded here.")
