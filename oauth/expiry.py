"""The OAuth rows that have no effect any more, and can be deleted.

The toolkit's `clear_expired` deletes used codes at once, so that their reuse would not be detected, and neither device
grants nor token families. It also counts all rows again for each batch.
"""

from datetime import timedelta

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone
from oauth2_provider.models import AccessToken, RefreshToken
from oauth2_provider.settings import oauth2_settings

from oauth.models import DeviceGrant, Grant, TokenFamily

# Codes and device grants are kept for this time after their expiry. The second use of a code revokes the tokens that it
# issued.
EXPIRED_GRANT_RETENTION = timedelta(days=1)


def refresh_tokens() -> QuerySet[RefreshToken]:
    """Return refresh tokens that have expired, that have lost their access token, or that were revoked long ago.

    A revoked token is kept for the lifetime of an unused one, because its use revokes the token family.
    """
    cutoff = timezone.now() - timedelta(seconds=oauth2_settings.REFRESH_TOKEN_EXPIRE_SECONDS)
    unusable = Q(access_token=None) | Q(access_token__expires__lte=cutoff)
    return RefreshToken.objects.filter(Q(revoked__lte=cutoff) | Q(revoked=None) & unusable)


def access_tokens() -> QuerySet[AccessToken]:
    """Return expired access tokens without a refresh token, which expires by the time of its access token."""
    return AccessToken.objects.filter(expires__lte=timezone.now(), refresh_token=None)


def token_families() -> QuerySet[TokenFamily]:
    """Return families without tokens. While a family has one, deleting its row would extend the authorization."""
    tokens = RefreshToken.objects.filter(token_family=OuterRef("pk"))
    return TokenFamily.objects.filter(~Exists(tokens))


def authorization_codes() -> QuerySet[Grant]:
    return Grant.objects.filter(expires__lte=timezone.now() - EXPIRED_GRANT_RETENTION)


def device_grants() -> QuerySet[DeviceGrant]:
    return DeviceGrant.objects.filter(expires__lte=timezone.now() - EXPIRED_GRANT_RETENTION)
