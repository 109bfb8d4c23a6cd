"""Settings of django-oauth-toolkit, the authorization server: scopes, lifetimes, and the rules of RFC 9700."""

from datetime import timedelta
from typing import Any

# From the authorization on, however often the refresh token is replaced. Then the user has to authorize again.
REFRESH_TOKEN_LIFETIME = timedelta(days=90)

OAUTH_SETTINGS: dict[str, Any] = {
    "OAUTH2_SERVER_CLASS": "oauth.server.AuthorizationServer",
    "OAUTH2_VALIDATOR_CLASS": "oauth.server.Validator",
    "SCOPES": {  # scope to its sentence on the consent page
        "openid": "See your user id and your role in your current workspace",
        "profile": "See your name",
        "email": "See your email address",
        "workspace:read": "Read the tasks and the members of your workspaces",
        "workspace:write": "Create, change and delete tasks in your workspaces",
        "api-keys:manage": "List, create, rename, rotate and revoke API keys where you are an owner or admin",
    },
    "DEFAULT_SCOPES": ["workspace:read"],
    "SCOPES_BACKEND_CLASS": "oauth.scopes.ApplicationScopes",
    "ALLOW_LOCALHOST_LOOPBACK": True,  # native apps may use any port of localhost, as of 127.0.0.1 (RFC 8252, 8.3)
    "AUTHORIZATION_CODE_EXPIRE_SECONDS": 60,
    "ACCESS_TOKEN_EXPIRE_SECONDS": 3600,
    "REFRESH_TOKEN_EXPIRE_SECONDS": 30 * 24 * 3600,  # after the access token that was issued with it
    "REFRESH_TOKEN_REUSE_PROTECTION": True,
    "OAUTH_PRE_TOKEN_VALIDATION": [],
    "OAUTH2_RESPONSE_TYPES_SUPPORTED": ["code"],
    "OAUTH2_GRANT_TYPES_SUPPORTED": [
        "authorization_code",
        "refresh_token",
        "urn:ietf:params:oauth:grant-type:device_code",
    ],
    "OAUTH2_TOKEN_ENDPOINT_AUTH_METHODS_SUPPORTED": ["none", "client_secret_post", "client_secret_basic"],
    "COMPLIANT_BCP_RFC9700_IMPLICIT_GRANT": True,
    "COMPLIANT_BCP_RFC9700_PASSWORD_GRANT": True,
    "COMPLIANT_BCP_RFC9700_PKCE_METHOD": True,
    "COMPLIANT_BCP_RFC9700_ACCESS_TOKEN_TRANSPORT": True,
    "COMPLIANT_BCP_RFC9700_AUTHZ_RESPONSE_ISS": True,
    "COMPLIANT_BCP_RFC9700_TOKEN_STORAGE": True,
    "COMPLIANT_BCP_RFC9700_REFRESH_TOKEN": True,
    "COMPLIANT_BCP_RFC9700_REDIRECT_URI_MATCHING": True,
    "COMPLIANT_BCP_RFC9700_PKCE_REQUIRED": True,
}
