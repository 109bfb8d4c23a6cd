from django.urls import include, path

from apikeys.authentication import RESOURCE_METADATA_PATH
from oauth import endpoints, views

# The toolkit looks these names up to list the endpoints in the metadata.
toolkit = [
    path("app/auth/authorize", views.AuthorizationView.as_view(), name="authorize"),
    path("app/auth/token", endpoints.TokenView.as_view(), name="token"),
    path("app/auth/revoke", endpoints.RevokeView.as_view(), name="revoke-token"),
    path("app/auth/device", views.device, name="device-authorization"),
    path(".well-known/oauth-authorization-server", endpoints.MetadataView.as_view(), name="oauth-server-metadata"),
    # The first is for clients that have only the host, the second for those that have the API's URL or the challenge.
    path(".well-known/oauth-protected-resource", endpoints.ResourceMetadataView.as_view()),
    path(RESOURCE_METADATA_PATH.lstrip("/"), endpoints.ResourceMetadataView.as_view(path="/api/v1")),
]

urlpatterns = [
    path("app/auth/device", views.device, name="device"),
    path("app/auth/device/decision", views.DeviceDecisionView.as_view(), name="decide-device"),
    path("", include((toolkit, "oauth2_provider"))),
]
