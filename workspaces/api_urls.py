from django.urls import path

from workspaces import viewsets

workspace = viewsets.WorkspaceViewSet
member = viewsets.MemberViewSet
task = viewsets.TaskViewSet

urlpatterns = [
    path("me", viewsets.WhoAmIView.as_view()),
    path("workspaces", workspace.as_view({"get": "list"})),
    path("workspaces/<str:workspace_id>", workspace.as_view({"get": "retrieve"})),
    path("workspaces/<str:workspace_id>/members", member.as_view({"get": "list"})),
    path("workspaces/<str:workspace_id>/tasks", task.as_view({"get": "list", "post": "create"})),
    path(
        "workspaces/<str:workspace_id>/tasks/<str:task_id>",
        task.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
        name="fetch-task",
    ),
]
