"""Every page of the site."""

from django.contrib import admin
from django.contrib.auth import views as auth
from django.urls import path

from board import views

urlpatterns = [
    path("", views.home),
    path("posts/new/", views.new_post),
    path("posts/<int:number>/", views.post),
    path("me/", views.me),
    path("upload/", views.upload),
    path("stream/", views.stream),
    path("stream/release/", views.release),
    path("chat/", views.chat),
    path("origin/counts/", views.counts),
    path("accounts/login/", auth.LoginView.as_view()),
    path("accounts/logout/", auth.LogoutView.as_view(next_page="/")),
    path("admin/", admin.site.urls),
]
