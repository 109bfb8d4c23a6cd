from django.urls import path

from core.views import SignOutView
from workspaces import views

urlpatterns = [
    path("sign-in/", views.SignInView.as_view(), name="sign-in"),
    path("sign-out/", SignOutView.as_view(), name="sign-out"),
    path("settings/password/", views.ChangePasswordView.as_view(), name="change-password"),
    path("settings/password/changed/", views.PasswordChangedView.as_view(), name="password-changed"),
    path("workspaces/", views.WorkspaceListView.as_view(), name="workspaces"),
    path("workspaces/choose/", views.ChooseWorkspaceView.as_view(), name="choose-workspace"),
]
