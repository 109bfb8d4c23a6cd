"""Hardened request parsing: the WSGI handler, its request class, and the reading of bodies."""

from collections.abc import MutableMapping
from io import BytesIO
from time import monotonic
from typing import Any

from django.conf import settings
from django.core.exceptions import BadRequest, RequestDataTooBig
from django.core.files.uploadhandler import FileUploadHandler
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.http import HttpRequest, HttpResponseBase
from django.http.multipartparser import MultiPartParserError
from django.utils.http import parse_header_parameters

from core.db import contention

WITHOUT_BODY = ("GET", "HEAD")
PIECE = 64  # bytes of a body that are read at once; 1 MiB takes about 30 ms
# The variables that CGI defines (RFC 3875, 4.1) and those that Django reads besides.
REQUEST_VARIABLES = {
    "AUTH_TYPE",
    "CONTENT_LENGTH",
    "CONTENT_TYPE",
    "GATEWAY_INTERFACE",
    "PATH_INFO",
    "PATH_TRANSLATED",
    "QUERY_STRING",
    "REDIRECT_URL",
    "REMOTE_ADDR",
    "REMOTE_HOST",
    "REMOTE_IDENT",
    "REMOTE_USER",
    "REQUEST_METHOD",
    "SCRIPT_NAME",
    "SCRIPT_URL",
    "SERVER_NAME",
    "SERVER_PORT",
    "SERVER_PROTOCOL",
    "SERVER_SOFTWARE",
}


def remove_request_variables(environment: MutableMapping[str, str]) -> None:
    """Remove the variables that would look like parts of a request, such as the header `HTTP_AUTHORIZATION`.

    granian copies the environment of the process into the environ of each request. `HTTP_PROXY` stays: programs use it
    to reach other servers, and nothing here reads the header `Proxy`.
    """
    for name in list(environment):
        if name in REQUEST_VARIABLES or (name.startswith("HTTP_") and name != "HTTP_PROXY"):
            del environment[name]


class Request(WSGIRequest):
    """A request whose headers can't make parsing fail or take long."""

    is_complete = False  # whether `receive_body` has read the whole body

    def __init__(self, environ: dict[str, Any]) -> None:
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

    def get_response(self, request: Any) -> HttpResponseBase:
        """Close the connection after a response that came before the whole body.

        The rest of the body must not be read as another request, and the client must not send one on this connection.
        """
        with contention.request():
            response = super().get_response(request)
        if not request.is_complete and body_length(request.META) != 0:
            response["Connection"] = "close"
        return response


class NoUploads(FileUploadHandler):
    """Rejects file uploads. No form accepts a file, so none is stored in memory or on disk."""

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        raise MultiPartParserError("File uploads are not supported.")


# ---- bodies ----


class BodyTooSlow(Exception):
    """The body did not arrive within `BODY_SECONDS`."""

    def __init__(self) -> None:
        seconds = settings.BODY_SECONDS
        super().__init__(f"The body did not arrive within {seconds} second{'' if seconds == 1 else 's'}.")


def receive_body(request: HttpRequest) -> None:
    """Read the whole body into memory, so that nothing waits for the client later.

    Raise `RequestDataTooBig` if it is larger than `DATA_UPLOAD_MAX_MEMORY_SIZE`, `BodyTooSlow`, or `BadRequest` if it
    is shorter than its Content-Length. A body without that header may be cut: granian's `read` reports a disconnection,
    a malformed chunk and the end of the body alike.
    """
    length = body_length(request.META)
    if length != 0:
        body = _read(request.environ["wsgi.input"], length)  # type: ignore[attr-defined]  # of a WSGIRequest
        request._stream = BytesIO(body)  # as Django's `HttpRequest.body` does
        request.META["CONTENT_LENGTH"] = str(len(body))
    request.is_complete = True  # type: ignore[attr-defined]  # ours


def body_length(meta: dict[str, Any]) -> int | None:
    """Return the length of the body, or None if the headers don't say it: in chunks, or over HTTP/2."""
    if "HTTP_TRANSFER_ENCODING" in meta:  # overrides a Content-Length (RFC 9112, 6.3)
        return None
    if length := meta.get("CONTENT_LENGTH"):
        return int(length)
    return None if meta["SERVER_PROTOCOL"] == "HTTP/2" and meta["REQUEST_METHOD"] not in WITHOUT_BODY else 0


def _read(stream: Any, length: int | None) -> bytes:
    """Read the body in small pieces that grow, so that the time is checked often while few bytes arrive.

    The server's `read` has no time limit: it returns when it has all the bytes that it should read, or at the end of
    the body. So this function waits for a client that sends nothing more until that client disconnects.
    """
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    if length is not None and length > limit:
        raise RequestDataTooBig
    deadline = monotonic() + settings.BODY_SECONDS
    body = bytearray()
    end = limit + 1 if length is None else length
    while len(body) < end:
        piece = stream.read(min(len(body) + 1, PIECE, end - len(body)))
        if not piece:
            break
        body += piece
        if monotonic() > deadline:
            raise BodyTooSlow
    if len(body) > limit:
        raise RequestDataTooBig
    if length is not None and len(body) < length:
        raise BadRequest("The body is incomplete.")
    return bytes(body)
