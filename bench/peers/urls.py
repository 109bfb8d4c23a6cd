from django.urls import path

from bench.peers import views

urlpatterns = [
    path("values", views.ValuesView.as_view()),
    path("serializer", views.SerializerView.as_view()),
    path("api-key", views.ApiKeyView.as_view()),
    path("api-key-throttled", views.ThrottledApiKeyView.as_view()),
    path("knox-throttled", views.ThrottledKnoxView.as_view()),
]
