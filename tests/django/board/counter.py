"""Counts what reaches the origin, by path: what is missing here, a cache has answered."""

import collections
import threading

from asgiref.sync import iscoroutinefunction, markcoroutinefunction

_lock = threading.Lock()
_counts = collections.Counter()


def counts():
    with _lock:
        return dict(_counts)


class CountRequests:
    async_capable = True
    sync_capable = True

    def __init__(self, get_response):
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request):
        with _lock:
            _counts[request.path] += 1
        return self.get_response(request)
