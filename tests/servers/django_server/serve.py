"""Run by `DjangoServer` in the servers' environment: `python serve.py SETTINGS.json READY.json`."""

import hashlib
import json
import secrets
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import django
from django.conf import settings as django_settings

SETTINGS = json.loads(Path(sys.argv[1]).read_text())
TOKEN_REQUESTS: list[dict[str, object]] = []
COUNTS = {"spends": 0, "reuses": 0, "api_requests": 0}
SPENT: dict[str, float] = {}
# Row locks do nothing on SQLite, so token requests go one at a time.
ONE_AT_A_TIME = threading.Lock()

LOGIN = '<form method="post">{% csrf_token %}{{ form.as_p }}<button type="submit">Sign in</button></form>'

django_settings.configure(
    SECRET_KEY=secrets.token_hex(32),
    DEBUG=False,
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    LOGIN_URL="/login/",
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "oauth2_provider",
    ],
    MIDDLEWARE=[
        "__main__.TokenLog",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": f"{SETTINGS['folder']}/database.sqlite3",
            "OPTIONS": {"timeout": 30, "transaction_mode": "IMMEDIATE"},
        }
    },
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],  # fast; the secrets are random
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {
                "loaders": [
                    ("django.template.loaders.locmem.Loader", {"registration/login.html": LOGIN}),
                    "django.template.loaders.app_directories.Loader",
                ],
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                ],
            },
        }
    ],
    LOGGING={
        "version": 1,
        "handlers": {"console": {"class": "logging.StreamHandler"}},
        "root": {"handlers": ["console"], "level": "WARNING"},
    },
    OAUTH2_PROVIDER={
        "ACCESS_TOKEN_EXPIRE_SECONDS": SETTINGS["access_token_lifetime"],
        "REFRESH_TOKEN_GRACE_PERIOD_SECONDS": SETTINGS["grace_period"],
        "REFRESH_TOKEN_REUSE_PROTECTION": SETTINGS["reuse_protection"],
        "ROTATE_REFRESH_TOKEN": SETTINGS["rotate"],
        "PKCE_REQUIRED": True,
        "SCOPES": {"read": "Read", "write": "Write", "introspection": "Introspect"},
        "DEFAULT_SCOPES": ["read"],
        "ALLOWED_REDIRECT_URI_SCHEMES": ["http", "https"],
    },
)
django.setup()

from django.contrib.auth import get_user_model  # noqa: E402 - all of Django needs the set-up above
from django.contrib.auth.views import LoginView  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import HttpRequest, HttpResponse, JsonResponse  # noqa: E402
from django.urls import include, path  # noqa: E402
from django.views.decorators.csrf import csrf_exempt  # noqa: E402
from oauth2_provider.models import get_application_model  # noqa: E402
from oauth2_provider.oauth2_backends import get_oauthlib_core  # noqa: E402
from oauth2_provider.settings import oauth2_settings  # noqa: E402

RUNTIME_NAMES = {
    "access_token_lifetime": "ACCESS_TOKEN_EXPIRE_SECONDS",
    "grace_period": "REFRESH_TOKEN_GRACE_PERIOD_SECONDS",
    "reuse_protection": "REFRESH_TOKEN_REUSE_PROTECTION",
    "rotate": "ROTATE_REFRESH_TOKEN",
}


def fingerprint(token: str | None) -> str | None:
    return hashlib.sha256(token.encode()).hexdigest()[:12] if token else None


class TokenLog:
    """Notes each request to the token endpoint, without secrets, and lets them in one at a time."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path != "/o/token/":
            return self.get_response(request)
        with ONE_AT_A_TIME:
            presented = request.POST.get("refresh_token")
            response = self.get_response(request)
            note(request, presented, response)
            return response


def note(request: HttpRequest, presented: str | None, response: HttpResponse) -> None:
    body = json.loads(response.content or b"{}")
    mark = fingerprint(presented)
    now = time.time()
    succeeded = response.status_code == 200
    again = mark in SPENT
    # Within the grace period the same answer comes again: that is no reuse, and no second spend.
    reuse = again and not succeeded
    if presented and succeeded and not again:
        COUNTS["spends"] += 1
        if body.get("refresh_token") not in (None, presented):
            SPENT[mark] = now
    COUNTS["reuses"] += reuse
    TOKEN_REQUESTS.append(
        {
            "at": now,
            "grant_type": request.POST.get("grant_type"),
            "refresh_token": mark,
            "rotated_to": fingerprint(body.get("refresh_token")) if presented else None,
            "status": response.status_code,
            "error": body.get("error"),
            "reuse": reuse,
        }
    )


def items(request: HttpRequest) -> HttpResponse:
    COUNTS["api_requests"] += 1
    valid, _ = get_oauthlib_core().verify_request(request, scopes=["read"])
    if not valid:
        answer = JsonResponse({"error": "invalid_token"}, status=401)
        answer["WWW-Authenticate"] = 'Bearer realm="api", error="invalid_token", error_description="expired or revoked"'
        return answer
    page, pages = int(request.GET.get("page", "1")), SETTINGS["pages"]
    following = request.build_absolute_uri(f"/api/items?page={page + 1}") if page < pages else None
    found = (
        [{"id": (page - 1) * 10 + n, "name": f"item {n} of page {page}"} for n in range(10)] if page <= pages else []
    )
    return JsonResponse({"items": found, "page": page, "pages": pages, "next": following})


@csrf_exempt
def control(request: HttpRequest, what: str) -> HttpResponse:
    if what == "stats":
        return JsonResponse({**COUNTS, "token_requests": len(TOKEN_REQUESTS)})
    if what == "log":
        return JsonResponse(TOKEN_REQUESTS, safe=False)
    for name, value in json.loads(request.body).items():
        SETTINGS[name] = value
        if name in RUNTIME_NAMES:
            setattr(oauth2_settings, RUNTIME_NAMES[name], value)
    return JsonResponse({})


urlpatterns = [
    path("login/", LoginView.as_view()),
    path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
    path("api/items", items),
    path("_rig/<str:what>", control),
]


class QuietHandler(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing for a request: query strings hold codes."""


class LoopbackServer(ThreadedWSGIServer):
    request_queue_size = 256

    def server_bind(self) -> None:
        # The base class asks the name service for the host's name, which can take seconds.
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]
        self.setup_environ()


def register_clients() -> None:
    application = get_application_model()
    user = get_user_model().objects.create_user("test-user", password="test-password")
    for client in SETTINGS["clients"]:
        public = not client["client_secret"]
        by_password = client["name"] == "password"
        application.objects.create(
            name=client["name"],
            user=user,
            client_id=client["client_id"],
            client_secret=client["client_secret"],
            client_type=application.CLIENT_PUBLIC if public else application.CLIENT_CONFIDENTIAL,
            authorization_grant_type=application.GRANT_PASSWORD
            if by_password
            else application.GRANT_AUTHORIZATION_CODE,
            redirect_uris=client["redirect_uri"],
        )


def main() -> None:
    call_command("migrate", verbosity=0, interactive=False)
    register_clients()
    server = LoopbackServer(("127.0.0.1", 0), QuietHandler)
    server.set_app(get_wsgi_application())
    ready = Path(sys.argv[2])
    unfinished = ready.with_suffix(".tmp")
    unfinished.write_text(json.dumps({"url": f"http://127.0.0.1:{server.server_port}"}))
    unfinished.replace(ready)
    server.serve_forever()


if __name__ == "__main__":
    main()
