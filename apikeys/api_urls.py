from django.urls import path

from apikeys.viewsets import ApiKeyViewSet, WorkspaceUsageViewSet

urlpatterns = [
    path("workspaces/<str:workspace_id>/api-keys", ApiKeyViewSet.as_view({"get": "list", "post": "create"})),
    path(
        "workspaces/<str:workspace_id>/api-keys/<str:api_key_id>",
        ApiKeyViewSet.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
        name="fetch-api-key",
    ),
    path(
        "workspaces/<str:workspace_id>/api-keys/<str:api_key_id>/rotate",
        ApiKeyViewSet.as_view({"post": "rotate"}),
    ),
    path(
        "workspaces/<str:workspace_id>/api-keys/<str:api_key_id>/previous-secret",
        ApiKeyViewSet.as_view({"delete": "end_previous_secret"}),
    ),
    path("workspaces/<str:workspace_id>/api-keys/<str:api_key_id>/usage", ApiKeyViewSet.as_view({"get": "usage"})),
    path("workspaces/<str:workspace_id>/usage", WorkspaceUsageViewSet.as_view({"get": "retrieve"})),
]
