from django.urls import include, path

from oauth import views

# The toolkit looks these names up to list the endpoints in the metadata.
toolkit = [
    path("app/auth/authorize", views.AuthorizationView.as_view(), name="authorize"),
    path("app/auth/token", views.TokenView.as_view(), name="token"),
    path("app/auth/revoke", views.RevokeView.as_view(), name="revoke-token"),
    path("app/auth/device", views.device, name="device-authorization"),
    path(".well-known/oauth-authorization-server", views.MetadataView.as_view(), name="oauth-server-metadata"),
]

urlpatterns = [
    path("app/auth/device", views.device, name="device"),
    path("app/auth/device/decision", views.DeviceDecisionView.as_view(), name="decide-device"),
    path("", include((toolkit, "oauth2_provider"))),
]
