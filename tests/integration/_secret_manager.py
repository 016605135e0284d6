"""As much of Google Secret Manager as a store takes: TLS, signed identities, numbered versions, states, rights, lag."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google_crc32c import value as checksum

from tests.servers.scripted import Answer, Received, ScriptedServer

PROJECT, NUMBER = "finance", "424242"
#: Of an identity in Google's own universe, Google's library looks up where it may be used, on the Internet.
UNIVERSE = "cloud.test"
AUDIENCE = "https://secretmanager.googleapis.com/"
_LARGEST = 65536
_PATH = re.compile(
    r"/v1/projects/(?P<project>[^/]+)(/locations/[a-z0-9-]+)?/secrets/(?P<secret>[^/:]+)(?P<versions>/versions)?(/(?P<version>\w+))?(:(?P<verb>\w+))?"
)
_CODES = {"NOT_FOUND": 404, "PERMISSION_DENIED": 403, "UNAUTHENTICATED": 401, "INVALID_ARGUMENT": 400}
_CODES |= {"FAILED_PRECONDITION": 400, "RESOURCE_EXHAUSTED": 429, "UNAVAILABLE": 503, "ABORTED": 409, "INTERNAL": 500}


class Refused(Exception):
    pass


class SecretManager(ScriptedServer):
    """Google's REST protocol (v1): proto-JSON, payloads in base64 with their checksum, `google.rpc` errors.

    As with Google, a version gets the next number and is there under it at once, while `latest` may lag behind, and
    may be a version that cannot be read. Answers name the project by its number.
    """

    def __init__(self) -> None:
        super().__init__(tls=True)
        self.versions: dict[str, list[dict[str, Any]]] = {}
        #: How many versions `latest` is behind.
        self.lag = 0
        #: Status by method: `access`, `addVersion`, `get`, `list`, `destroy`.
        self.refuse: dict[str, str] = {}
        #: Spoils what is read on its way.
        self.damage = False
        self.calls: list[str] = []
        self.routes = {"/v1": self._secrets}
        self._mutex = threading.RLock()
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    # What a person does

    def add(self, secret: str, text: str) -> int:
        with self._mutex:
            versions = self.versions.setdefault(secret, [])
            versions.append({"state": "ENABLED", "data": text.encode()})
            return len(versions)

    def value(self, secret: str, number: int = 0) -> Any:
        return json.loads(self.versions[secret][number - 1]["data"])

    def states(self, secret: str) -> list[str]:
        return [version["state"] for version in self.versions[secret]]

    def environment(self, folder: Path) -> dict[str, str]:
        """What a worker has to have: the key of a service account, as people give it, and trust in our CA."""
        path = folder / "key.json"
        self._write_key_file(path)
        return {
            "GOOGLE_APPLICATION_CREDENTIALS": str(path),
            "GOOGLE_CLOUD_UNIVERSE_DOMAIN": UNIVERSE,
            "REQUESTS_CA_BUNDLE": self.ca_file,
        }

    def _write_key_file(self, path: Path) -> None:
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        content = {
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": "1",
            "private_key": self._key.private_bytes(*form).decode(),
            "client_email": "airflow@finance.iam.gserviceaccount.com",
            "token_uri": f"{self.url}/no-need-for-it",
            "universe_domain": UNIVERSE,
        }
        path.write_text(json.dumps(content))

    # What the service does

    def _secrets(self, request: Received) -> Answer:
        try:
            self._check_identity(request)
            return Answer(200, self._answer_to(request))
        except Refused as refused:
            status, message = refused.args
            error = {"code": _CODES[status], "message": message, "status": status, "details": []}
            return Answer(_CODES[status], {"error": error})

    def _answer_to(self, request: Received) -> dict[str, Any]:
        found = _PATH.fullmatch(request.path)
        assert found is not None, request.path
        assert found["project"] in (PROJECT, NUMBER)
        method = found["verb"] or ("get" if found["version"] else "list")
        self.calls.append(method)
        if method in self.refuse:
            raise Refused(self.refuse[method], f"you sent {request.body!r}")
        with self._mutex:
            if found["secret"] not in self.versions:
                raise Refused("NOT_FOUND", f"Secret [{found['secret']}] not found or has no versions.")
            return self._answers(method, request, found.groupdict())

    def _check_identity(self, request: Received) -> None:
        try:
            token = (request.header("Authorization") or "").removeprefix("Bearer ")
            claims = jwt.decode(token, self._key.public_key(), algorithms=["RS256"], audience=AUDIENCE)
        except jwt.PyJWTError as error:
            raise Refused("UNAUTHENTICATED", str(error)) from None
        assert claims["iss"] == "airflow@finance.iam.gserviceaccount.com"

    def _answers(self, method: str, request: Received, path: Mapping[str, str]) -> dict[str, Any]:
        secret = path["secret"]
        versions = self.versions[secret]
        if method == "addVersion":
            data = base64.b64decode(request.json()["payload"]["data"])
            if len(data) > _LARGEST or int(request.json()["payload"]["dataCrc32c"]) != checksum(data):
                raise Refused("INVALID_ARGUMENT", "size or checksum")
            return self._bundle(secret, self.add(secret, data.decode()))
        if method == "list":
            assert request.query["filter"] == "state:ENABLED"
            numbers = [n for n in range(len(versions), 0, -1) if versions[n - 1]["state"] == "ENABLED"]
            page = numbers[: int(request.query["pageSize"])]
            return {"versions": [self._bundle(secret, n) for n in page], "totalSize": len(numbers)}
        latest = max(1, len(versions) - self.lag)
        number = latest if path["version"] == "latest" else int(path["version"])
        if not 1 <= number <= len(versions):
            raise Refused("NOT_FOUND", f"Secret Version [{number}] not found.")
        if method == "destroy":
            if versions[number - 1]["state"] == "DESTROYED":
                raise Refused("FAILED_PRECONDITION", "is in DESTROYED state")
            versions[number - 1] |= {"state": "DESTROYED", "data": b""}
        if method != "access":
            return self._bundle(secret, number)
        if versions[number - 1]["state"] != "ENABLED":
            raise Refused("FAILED_PRECONDITION", f"is in {versions[number - 1]['state']} state")
        data = versions[number - 1]["data"]
        payload = {"data": base64.b64encode(data).decode(), "dataCrc32c": str(checksum(data))}
        if self.damage:
            payload["data"] = base64.b64encode(data.replace(b"s3cret", b"s3cres")).decode()
        return {"name": self._bundle(secret, number)["name"], "payload": payload}

    def _bundle(self, secret: str, number: int) -> dict[str, Any]:
        return {
            "name": f"projects/{NUMBER}/secrets/{secret}/versions/{number}",
            "createTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "state": self.versions[secret][number - 1]["state"],
            "etag": f'"{number:x}"',
            "clientSpecifiedPayloadChecksum": True,
        }
