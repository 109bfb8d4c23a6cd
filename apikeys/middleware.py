from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.module_loading import import_string
from django.views.decorators.debug import sensitive_variables

from apikeys.authentication import Authenticator, bearer_of
from apikeys.throttling import admit
from onehorizon.errors import is_api, refusal


class PrincipalMiddleware:
    """Lets the principals of API requests in, and counts each request on its principal's quota, before a view is looked
    for: what is refused costs neither a route nor a view, nor what DRF prepares for one.

    `request.principal` and `request.quota` are what came of it; neither is there where no bearer token was sent.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        self.authenticators: list[Authenticator] = [import_string(path)() for path in settings.AUTHENTICATORS]

    @sensitive_variables()
    def __call__(self, request: HttpRequest) -> HttpResponse:
        bearer = bearer_of(request) if is_api(request) else None
        if bearer is not None:
            try:
                authenticator = next(each for each in self.authenticators if each.claims(bearer))
                principal = authenticator.authenticate(request, bearer)
                request.principal = principal  # type: ignore[attr-defined]
                request.log_fields = principal.log_fields  # type: ignore[attr-defined]
                admit(request, principal)
            except Exception as error:
                return refusal(error, self)
        return self.get_response(request)
