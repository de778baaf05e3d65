"""HTTP goes to Django, WebSockets to an echo."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_under_test.settings")

from django.core.asgi import get_asgi_application  # noqa: E402

django = get_asgi_application()


async def application(scope, receive, send):
    if scope["type"] != "websocket":
        await django(scope, receive, send)
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        text = event.get("text")
        if text is not None:
            await send({"type": "websocket.send", "text": f"echo: {text}"})
        else:
            await send({"type": "websocket.send", "bytes": event["bytes"]})
