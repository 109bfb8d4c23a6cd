from django.urls import include, path

from apikeys import views

in_workspace = [
    path("", views.KeyListView.as_view(), name="api-keys"),
    path("find/", views.FindKeyView.as_view(), name="find-api-key"),
    path("quota/", views.QuotaView.as_view(), name="quota"),
    path("add/", views.AddKeyView.as_view(), name="add-api-key"),
    path("<str:api_key_id>/", views.KeyView.as_view(), name="api-key"),
    path("<str:api_key_id>/rename/", views.RenameKeyView.as_view(), name="rename-api-key"),
    path("<str:api_key_id>/rotate/", views.RotateKeyView.as_view(), name="rotate-api-key"),
    path("<str:api_key_id>/first-request/<str:key_id>/", views.FirstRequestView.as_view(), name="first-request"),
    path("<str:api_key_id>/previous-secret/", views.PreviousSecretView.as_view(), name="previous-secret"),
    path(
        "<str:api_key_id>/end-previous-secret/",
        views.EndPreviousSecretView.as_view(),
        name="end-previous-secret",
    ),
    path("<str:api_key_id>/revoke/", views.RevokeKeyView.as_view(), name="revoke-api-key"),
]

urlpatterns = [
    path("settings/developer/api-keys/", views.CurrentWorkspaceView.as_view(), name="current-api-keys"),
    path("w/<str:workspace_id>/settings/developer/api-keys/", include(in_workspace)),
]
