"""An answer of aiohttp without a server."""

from __future__ import annotations

import json
from types import SimpleNamespace

from aiohttp import ClientResponseError


class MockAiohttpClientResponse:
    def __init__(self, status=200, reason="OK", method="GET", url="http://localhost", body=b"", payload=None):
        self.status, self.reason, self.method, self.url = status, reason, method, url
        self._body = body if payload is None else json.dumps(payload).encode()

    async def read(self):
        return self._body

    async def text(self):
        return self._body.decode()

    async def json(self):
        return json.loads(self._body)

    def raise_for_status(self):
        if self.status >= 400:
            raise ClientResponseError(SimpleNamespace(real_url=self.url), (), status=self.status, message=self.reason)
