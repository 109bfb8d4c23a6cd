"""The toolkit's authorization server with stricter rules: PKCE with S256 only, single-use codes, active users only.

Every consent and revocation is an audit event. A reused code or refresh token is logged.
"""

import hashlib
import logging
import re
from datetime import timedelta
from typing import Any

from django.contrib.auth.hashers import make_password
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables
from oauth2_provider.models import AccessToken, RefreshToken
from oauth2_provider.oauth2_validators import OAuth2Validator
from oauth2_provider.settings import oauth2_settings
from oauthlib.common import Request
from oauthlib.oauth2 import Server
from oauthlib.oauth2.rfc6749 import errors
from oauthlib.oauth2.rfc8628.grant_types import DeviceCodeGrant
from oauthlib.openid.connect.core.exceptions import ConsentRequired

from oauth.consent import consented_at
from oauth.models import LOGGED_CLIENT_ID, Application, DeviceGrant, Grant, TokenFamily, revoke_token
from oauth.prompts import require_known_prompt
from oauth.requests import basic_credentials, ip_of
from workspaces.models import Action, Actor, AuditEvent, User, Via

DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
REFRESH_GRACE = timedelta(seconds=10)  # in which a client may use a refresh token again
_S256_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")

logger = logging.getLogger("onehorizon.oauth")


class AuthorizationServer(Server):  # type: ignore[misc]  # without types
    """Rejects the grants that are not offered before it reads anything else.

    The toolkit checks the password of a `password` grant first, without the limits of the sign-in page, and a client
    could tell from the error whether it is right.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for grant_type in self.grant_types.keys() - set(oauth2_settings.OAUTH2_GRANT_TYPES_SUPPORTED):
            del self.grant_types[grant_type]
        # An error of the implicit grant would be unauthorized_client.
        for response_type in self.response_types.keys() - set(oauth2_settings.OAUTH2_RESPONSE_TYPES_SUPPORTED):
            del self.response_types[response_type]
        self.auth_grant.custom_validators.pre_auth += [require_code, require_known_prompt, require_s256]


def require_code(request: Request) -> dict[str, Any]:
    """Raise `UnsupportedResponseTypeError` for a response type other than `code`.

    The client of a type with a token expects the response, also an error, in the fragment (RFC 6749, 4.2.2.1).
    """
    if request.response_type in (None, *oauth2_settings.OAUTH2_RESPONSE_TYPES_SUPPORTED):
        return {}
    if {"token", "id_token"} & set(request.response_type.split()):
        request.response_mode = request.response_mode or "fragment"
    raise errors.UnsupportedResponseTypeError(request=request)


def require_s256(request: Request) -> dict[str, Any]:
    """Apply PKCE rules (RFC 9700): a challenge without a method means S256, and other methods are rejected.

    Raise `UnsupportedCodeChallengeMethodError`, or `InvalidRequestError` for a malformed challenge.
    """
    if request.code_challenge is None:
        return {}
    if request.code_challenge_method is None:
        request.code_challenge_method = "S256"
    if request.code_challenge_method != "S256":
        raise errors.UnsupportedCodeChallengeMethodError(request=request)
    if not _S256_CHALLENGE.fullmatch(request.code_challenge):
        raise errors.InvalidRequestError(
            "code_challenge must be a SHA-256 in base64url, 43 characters long.", request=request
        )
    return {}


def is_repeated(token: RefreshToken) -> bool:
    """Return whether this token was used within `REFRESH_GRACE`, and no token that replaced it has been used.

    Several processes of the client may share the token, or a response may have been lost. The access token of the first
    response exists only until the next refresh or a revocation.
    """
    is_recent = token.revoked is not None and token.revoked > timezone.now() - REFRESH_GRACE
    return is_recent and AccessToken.objects.filter(source_refresh_token=token).exists()


def log_reuse(credential: str, user: User, request: Request) -> None:
    """Log that a code or token was sent again after its use. It may be stolen."""
    fields = {"user": user.pk, "client": request.client.client_id[:LOGGED_CLIENT_ID], "clientIp": ip_of(request)}
    logger.warning("%s reused", credential, extra=fields)


class Validator(OAuth2Validator):  # type: ignore[misc]  # without types
    # ---- clients ----

    @sensitive_variables()
    def authenticate_client(self, request: Request, *args: Any, **kwargs: Any) -> bool:
        """Check the client's secret. An unknown client with a secret takes an Argon2 run too, as an existing one does.

        A request without a secret takes none.
        """
        client_id, secret = self._client_credentials(request)
        client = self._load_application(client_id, request)
        if not secret:  # a public client has none, but some libraries send an empty one
            return client is not None and client.client_type == Application.CLIENT_PUBLIC
        if client is None:
            make_password(secret)
            return False
        return bool(self._check_secret(secret, client.client_secret))

    @sensitive_variables()
    def _client_credentials(self, request: Request) -> tuple[str, str]:
        """Return the client id and the secret of the Authorization header, or else of the body.

        Both are blank if the header is malformed, or if the body names another client.
        """
        credentials = basic_credentials(request.headers.get("HTTP_AUTHORIZATION", ""))
        if credentials is None:
            return request.client_id or "", request.client_secret or ""
        return credentials if request.client_id in (None, credentials[0]) else ("", "")

    def client_authentication_required(self, request: Request, *args: Any, **kwargs: Any) -> bool:
        """Return True for every request with a Basic header. The toolkit's check of the scheme is case-sensitive."""
        is_basic = basic_credentials(request.headers.get("HTTP_AUTHORIZATION", "")) is not None
        return is_basic or bool(super().client_authentication_required(request, *args, **kwargs))

    # ---- authorization codes ----

    @transaction.atomic
    def _create_authorization_code(self, request: Request, code: dict[str, str]) -> None:
        if not request.user.lock_access():
            raise errors.AccessDeniedError(request=request)
        # Ignore the parameters of OpenID Connect and RFC 8707, which are not supported.
        request.nonce = request.claims = None
        request.resource = []
        details: dict[str, Any] = {"application": request.client.client_id, "scope": " ".join(request.scopes)}
        consent = None
        if request.http_method != "POST":  # the user did not see the consent page, which sends a form
            consent = consented_at(request.user, request.client, request.scopes, request.redirect_uri)
            if consent is None:
                raise ConsentRequired(request=request)
            details["remembered"] = True
        actor = Actor(Via.PAGE, request.user, ip_of(request))
        AuditEvent.objects.record(Action.APPLICATION_ALLOWED, actor, subject=request.user.pk, **details)
        grant = super()._create_authorization_code(request, code)
        if consent is not None:
            grant.consented_at = consent
            grant.save(update_fields=["consented_at"])

    @transaction.atomic
    def validate_code(self, client_id: str, code: str, client: Any, request: Request, *args: Any) -> bool:
        used_grant = Grant.objects.filter(code=code, application=client, token_family__isnull=False).first()
        if used_grant is not None:  # used twice, so it may be stolen: revoke its tokens (RFC 6749, section 4.1.2)
            used_grant.user.lock_access()
            RefreshToken.revoke_family(used_grant.token_family)
            log_reuse("authorization code", used_grant.user, request)
            return False
        return bool(super().validate_code(client_id, code, client, request, *args))

    def invalidate_authorization_code(self, *args: Any) -> None:
        """Do nothing: `_save_bearer_token` has done it, in the transaction that saves the tokens."""

    def _use_code(self, request: Request) -> None:
        """Store the token family with the code. Raise `InvalidGrantError` if a concurrent request has used the code."""
        grants = Grant.objects.filter(code=request.code, application=request.client)
        if not grants.filter(token_family=None).update(token_family=request.token_family):
            log_reuse("authorization code", request.user, request)
            raise errors.InvalidGrantError(request=request)
        consent = grants.values_list("consented_at", flat=True).get()
        if consent is not None:
            TokenFamily.objects.create(pk=request.token_family, started_at=consent)

    # ---- device codes ----

    def validate_device_code(self, client_id: str, device_code: str, request: Request) -> str | None:
        grant, too_early = DeviceGrant.poll(client_id, device_code)
        if grant is None:
            return None
        if grant.expires <= timezone.now():
            return str(DeviceCodeGrant.DEVICE_CODE_EXPIRED)
        if grant.status == DeviceGrant.DENIED:
            return str(DeviceCodeGrant.DEVICE_CODE_DENIED)
        if too_early:
            return str(DeviceCodeGrant.DEVICE_CODE_SLOW_DOWN)
        if grant.status != DeviceGrant.AUTHORIZED:
            return str(DeviceCodeGrant.DEVICE_CODE_PENDING)
        request.user, request.scopes = grant.user, grant.scope.split()
        return str(DeviceCodeGrant.DEVICE_CODE_AUTHORIZED)

    # ---- tokens ----

    def _check_and_set_request_resource(self, request: Request) -> None:
        request.resource = []

    @transaction.atomic
    def validate_refresh_token(self, refresh_token: str, client: Any, request: Request, *args: Any) -> bool:
        """Check the token, and that its family has not expired. Revoke the family of a token that was used before.

        The user is locked, so that no concurrent request uses the token at the same time.
        """
        checksum = hashlib.sha256(refresh_token.encode()).hexdigest()
        holder = User.objects.filter(oauth2_provider_refreshtoken__token_checksum=checksum).first()
        if holder is None:
            return False
        holder.lock_access()
        token = RefreshToken.objects.filter(token_checksum=checksum).first()
        if token is None:  # deleted since, such as together with its application
            return False
        if token.revoked is None:
            is_valid = super().validate_refresh_token(refresh_token, client, request, *args)
            return is_valid and not TokenFamily.of(token).is_expired
        if token.application == client and is_repeated(token):
            request.user, request.refresh_token_instance = token.user, token
            return not TokenFamily.of(token).is_expired
        RefreshToken.revoke_family(token.token_family)
        if self._is_replaced(token):
            log_reuse("refresh token", token.user, request)
        return False

    def _is_replaced(self, token: RefreshToken) -> bool:
        """Return whether the token was used. Otherwise it was only revoked, and its client may not know that yet."""
        return bool(RefreshToken.objects.filter(token_family=token.token_family, pk__gt=token.pk).exists())

    def get_original_scopes(self, refresh_token: str, request: Request, *args: Any) -> str:
        """Return the scopes of the token, or of the one that replaced it. Raise `InvalidGrantError` if there is none.

        A concurrent request may have used the token since it was checked.
        """
        token = request.refresh_token_instance
        access_token = AccessToken.objects.filter(Q(refresh_token=token) | Q(source_refresh_token=token)).first()
        if access_token is None:
            raise errors.InvalidGrantError(request=request)
        return str(access_token.scope)

    def _save_bearer_token(self, token: dict[str, Any], request: Request, *args: Any) -> None:
        if not request.user.lock_access():
            raise errors.InvalidGrantError(request=request)
        if not self.validate_scopes(request.client_id, token["scope"].split(), request.client, request):
            raise errors.InvalidScopeError(request=request)  # the application may no longer request them
        if request.grant_type == "refresh_token":
            self._use_refresh_token(request)
        if request.grant_type == DEVICE_CODE:
            self._consume_device_code(request)
        super()._save_bearer_token(token, request, *args)
        if request.grant_type == "authorization_code":
            self._use_code(request)

    def _use_refresh_token(self, request: Request) -> None:
        """End the family's other tokens, so that only those of one request are left after the next refresh.

        A repeated request gets more tokens of the family, and ends none. Raise `InvalidGrantError` if a concurrent
        request has revoked the family, or used another token of it.
        """
        used = request.refresh_token_instance
        family = RefreshToken.objects.select_for_update().filter(token_family=used.token_family, revoked=None)
        active = {token.pk: token for token in family.order_by("pk")}
        if active.pop(used.pk, None) is not None:
            for other in active.values():
                other.revoke()  # type: ignore[no-untyped-call]  # the toolkit has no types
        elif AccessToken.objects.filter(source_refresh_token=used).exists():
            # The toolkit would return the tokens of the first request, but they are stored as digests only.
            request.repeated_token, request.refresh_token_instance = used, None
        else:
            raise errors.InvalidGrantError(request=request)

    def _consume_device_code(self, request: Request) -> None:
        """Delete the grant. Raise `InvalidGrantError` if a concurrent request has used its code."""
        deleted, _ = DeviceGrant.objects.filter(
            client_id=request.client_id, device_code=request.device_code, status=DeviceGrant.AUTHORIZED
        ).delete()
        if not deleted:
            raise errors.InvalidGrantError(request=request)

    def _create_refresh_token(self, request: Request, code: str, access_token: AccessToken, previous: Any) -> Any:
        previous = previous or getattr(request, "repeated_token", None)
        refresh_token: RefreshToken = super()._create_refresh_token(request, code, access_token, previous)
        request.token_family = refresh_token.token_family
        return refresh_token

    def revoke_token(
        self, token: str, token_type_hint: str | None, request: Request, *args: Any, **kwargs: Any
    ) -> None:
        """Revoke the client's token, of either type: the hint is not needed (RFC 7009, section 2.1)."""
        checksum = hashlib.sha256(token.encode()).hexdigest()
        for model in (AccessToken, RefreshToken):
            for stored in model.objects.filter(token_checksum=checksum, application=request.client):
                revoke_token(stored, by=Actor(Via.API, stored.user, ip_of(request)))


class DeviceAuthorizationValidator(Validator):
    """For the endpoint that starts the device flow, which looks up the client before it checks the secret."""

    def validate_client_id(self, client_id: str, request: Request, *args: Any, **kwargs: Any) -> bool:
        """Return True if the client exists. Otherwise raise the error of the token endpoint, `InvalidClientError`."""
        if super().validate_client_id(client_id, request, *args, **kwargs):
            return True
        self.authenticate_client(request)  # takes as long as for an existing client
        raise errors.InvalidClientError(request=request)
