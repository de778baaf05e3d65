"""Pages as they are written every day: public ones that say so, personal ones that say nothing."""

import asyncio
import hashlib

from django import forms
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import cache_control, never_cache
from django.views.decorators.csrf import csrf_exempt

from .counter import counts as counted
from .models import Post


class PostForm(forms.ModelForm):
    class Meta:
        model = Post
        fields = ["title", "text"]


@cache_control(public=True, s_maxage=600, max_age=0)
def home(request):
    return render(request, "board/home.html", {"posts": Post.objects.order_by("-id")})


@cache_control(public=True, s_maxage=600, max_age=0)
def post(request, number):
    return render(request, "board/post.html", {"post": get_object_or_404(Post, pk=number)})


@login_required
def new_post(request):
    form = PostForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        form.instance.author = request.user
        form.save()
        return redirect("/")
    return render(request, "board/form.html", {"form": form, "title": "New post"})


@login_required
def me(request):
    # Nothing about caching is said here, as nobody ever does.
    visits = request.session["visits"] = request.session.get("visits", 0) + 1
    return render(request, "board/me.html", {"visits": visits})


@login_required
def upload(request):
    if request.method == "POST":
        digest = hashlib.sha256()
        for chunk in request.FILES["file"].chunks():
            digest.update(chunk)
        return HttpResponse(f"<p id=digest>{digest.hexdigest()}</p><p id=size>{request.FILES['file'].size}</p>")
    return render(request, "board/upload.html")


_waiting = {}


async def stream(request):
    """The second half comes only when somebody has asked for it: whoever sees the first half was not buffered."""
    released = _waiting.setdefault(request.GET["name"], asyncio.Event())

    async def halves():
        yield b"first half, "
        await asyncio.wait_for(released.wait(), 20)
        yield b"second half"

    return StreamingHttpResponse(halves(), content_type="text/plain")


@csrf_exempt
async def release(request):
    _waiting.setdefault(request.GET["name"], asyncio.Event()).set()
    return HttpResponse("released")


@cache_control(public=True, s_maxage=600, max_age=0)
def chat(request):
    return render(request, "board/chat.html")


@never_cache
def counts(request):
    return JsonResponse(counted())
