from django.urls import include, path

from apikeys.authentication import RESOURCE_METADATA_PATH
from oauth import views

# The toolkit looks these names up to list the endpoints in the metadata.
toolkit = [
    path("app/auth/authorize", views.AuthorizationView.as_view(), name="authorize"),
    path("app/auth/token", views.TokenView.as_view(), name="token"),
    path("app/auth/revoke", views.RevokeView.as_view(), name="revoke-token"),
    path("app/auth/device", views.device, name="device-authorization"),
    path(".well-known/oauth-authorization-server", views.MetadataView.as_view(), name="oauth-server-metadata"),
    # For clients that know only the host, and for those that know the URL of the API or read the challenge.
    path(".well-known/oauth-protected-resource", views.ResourceMetadataView.as_view()),
    path(RESOURCE_METADATA_PATH.lstrip("/"), views.ResourceMetadataView.as_view(path="/api/v1")),
]

urlpatterns = [
    path("app/auth/device", views.device, name="device"),
    path("app/auth/device/decision", views.DeviceDecisionView.as_view(), name="decide-device"),
    path("", include((toolkit, "oauth2_provider"))),
]
