"""The pages: all grants, one grant, sign in. They look like Airflow's own, and need no script to work.

All pages stand at one level below :data:`~airflow_oauth_provider.compat.api_server.PAGES_PREFIX` and link to each other
relatively, so that they work below a base URL with a path.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from airflow_oauth_provider.api_server import actions, browser_sign_in, session
from airflow_oauth_provider.api_server.actions import list_permitted_grants, require
from airflow_oauth_provider.compat import api_server
from airflow_oauth_provider.compat.sdk import AirflowNotFoundException
from airflow_oauth_provider.connection import sign_in
from airflow_oauth_provider.doctor.examination import look_at
from airflow_oauth_provider.doctor.report import Finding
from airflow_oauth_provider.exceptions import OAuth2Error
from airflow_oauth_provider.oauth2.errors import OAuth2ProtocolError
from airflow_oauth_provider.tokens.clock import show_time
from airflow_oauth_provider.tokens.grant_state import State

NOTE_COOKIE = "oauth2_note"
_NOTE = "note"

#: Only this server's own files; no frames, so that nobody can be tricked into clicking a hidden button.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # the address of an answer holds a code
    "Cache-Control": "no-store",
}

_templates = Environment(
    loader=PackageLoader("airflow_oauth_provider.api_server"), autoescape=True, undefined=StrictUndefined
)
_templates.filters["time"] = lambda seconds: "" if seconds is None else show_time(seconds)
_templates.filters["css"] = lambda state: state.value.replace(" ", "-")
_templates.filters["query"] = lambda conn_id: quote(conn_id, safe="")

router = APIRouter(default_response_class=HTMLResponse)


class Note(NamedTuple):
    """A sentence at the top of a page; its level is ``ok``, ``warn`` or ``fail``."""

    level: str
    text: str


def create_app() -> FastAPI:
    """Return the application that the plugin mounts: pages where Airflow's session opens them, JSON everywhere."""
    app = FastAPI(title="OAuth 2.0 grants", docs_url=None, redoc_url=None, openapi_url=None)
    app.middleware("http")(_add_headers)
    app.include_router(actions.router)
    if api_server.HAS_PAGES:
        app.include_router(router)
        app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"))
        app.add_exception_handler(StarletteHTTPException, _show_refusal)
        app.add_exception_handler(RequestValidationError, _show_refusal)
    return app


# ---------------------------------------------------------------------------------------------------- reading


@router.get("/")
def show_grants(request: Request, user: GetUserDep) -> Response:
    """Show all grants that the person may see."""
    return _page(request, user, "grants.html", grants=list_permitted_grants(user), states=list(State))


@router.get("/grant")
def show_grant(request: Request, connection: str, user: GetUserDep) -> Response:
    """Show one grant."""
    require("GET", connection, user)
    members = session.unseal(_NOTE, request.cookies.get(NOTE_COOKIE), 60)
    note = Note(members["level"], members["text"]) if members and members["connection"] == connection else None
    response = _grant_page(request, connection, user, note)
    if members:
        session.delete_cookie(response, NOTE_COOKIE)
    return response


@router.get("/sign-in")
def show_sign_in(request: Request, connection: str, user: GetUserDep) -> Response:
    """Show where a person signs in, and what is asked for."""
    require("PUT", connection, user)
    try:
        prepared = sign_in.prepare(connection)
    except AirflowNotFoundException:
        raise HTTPException(404, f"There is no connection {connection!r}.") from None
    except OAuth2Error as failure:
        return _grant_page(request, connection, user, Note("fail", str(failure)), status=409)
    return _page(
        request,
        user,
        "sign_in.html",
        connection=connection,
        redirect_uri=browser_sign_in.redirect_uri(request),
        server=urlsplit(prepared.endpoints.authorize_url).hostname or "",
        device_server=urlsplit(prepared.endpoints.device_authorize_url).hostname or "",
        scopes=prepared.configuration.options.scope.split(),
    )


# ----------------------------------------------------------------------------------------------------- acting


@router.get("/callback")
def callback(request: Request, user: GetUserDep) -> Response:
    """Take the answer of the authorization server: the browser arrives here with a code."""
    connection = ""
    try:
        connection, pending = browser_sign_in.read_pending(request, user)
        require("PUT", connection, user)
        response = _note_outcome(request, connection, browser_sign_in.finish(request, connection, pending, user))
    except (OAuth2Error, OAuth2ProtocolError) as failure:
        response = _page(
            request, user, "message.html", status=400, title="The sign-in failed", connection=connection,
            text=str(failure),
        )  # fmt: skip
    session.delete_cookie(response, browser_sign_in.CODE_COOKIE)
    return response


def _refresh(request: Request, connection: str, _form: dict[str, str], user: Any) -> Response:
    status = actions.refresh(connection, user)
    return _leave_note(request, connection, Note("warn" if status.warning else "ok", status.sentence))


def _revoke(request: Request, connection: str, _form: dict[str, str], user: Any) -> Response:
    if actions.revoke(connection, user):
        return _leave_note(request, connection, Note("ok", "The grant has been revoked. Tasks fail until you sign in."))
    return _leave_note(request, connection, Note("warn", "There was nothing to revoke."))


def _check(request: Request, connection: str, _form: dict[str, str], user: Any) -> Response:
    report = actions.check(connection, user)
    return _grant_page(request, connection, user, _summarize(report.findings), report.findings)


def _summarize(findings: list[Finding]) -> Note:
    levels = [found.level for found in findings]
    for level, what in (("fail", "fault"), ("warn", "warning")):
        if count := levels.count(level):  # type: ignore[arg-type]
            return Note(level, f"Found {count} {what}{'' if count == 1 else 's'}: see the findings below.")
    return Note("ok", "No fault was found.")


def _start(request: Request, connection: str, _form: dict[str, str], user: Any) -> Response:
    url, sealed = browser_sign_in.begin(request, connection, user)
    # Not a redirect: form-action would have to allow each address that the vendor redirects to.
    response = _page(request, user, "leave.html", connection=connection, url=url, server=urlsplit(url).hostname or "")
    session.set_cookie(request, response, browser_sign_in.CODE_COOKIE, sealed, browser_sign_in.LIFETIME)
    return response


def _begin_device(request: Request, connection: str, _form: dict[str, str], user: Any) -> Response:
    authorization, sealed = browser_sign_in.begin_device(connection, user)
    response = _page(request, user, "device.html", connection=connection, authorization=authorization)
    session.set_cookie(request, response, browser_sign_in.DEVICE_COOKIE, sealed, int(authorization.expires_in))
    return response


def _poll_device(request: Request, connection: str, form: dict[str, str], user: Any) -> Response:
    try:
        interval = float(form.get("interval", "5"))
    except ValueError:
        interval = 5.0
    interval = min(300.0, max(1.0, interval))  # in this order "nan" is 1
    outcome = browser_sign_in.poll_device(request, connection, interval, user)
    if isinstance(outcome, float):
        return JSONResponse({"interval": outcome})
    noted = _note_outcome(request, connection, outcome)
    response = JSONResponse({"signed_in": noted.headers["location"]})
    response.raw_headers += [header for header in noted.raw_headers if header[0] == b"set-cookie"]
    session.delete_cookie(response, browser_sign_in.DEVICE_COOKIE)
    return response


#: What the buttons of the pages do, by the last part of the form's address.
_ACTIONS: dict[str, Callable[[Request, str, dict[str, str], Any], Response]] = {
    "refresh": _refresh,  # refresh the access token now
    "revoke": _revoke,  # end the grant
    "check": _check,  # have the doctor examine the connection, and show what it found
    "start": _start,  # send the browser to the authorization server
    "device": _begin_device,  # show the code to enter on another device
    "device-poll": _poll_device,  # ask once whether the person has signed in there
}


async def act(request: Request, user: GetUserDep) -> Response:
    """Check a form and its sender, then do what it asks for: in a thread, since it may wait for servers."""
    form = await session.read_form(request)
    session.check_form(request, form.get(session.FORM_FIELD, ""), user)
    return await run_in_threadpool(_act_on, request, request.scope["path"].rpartition("/")[2], form, user)


def _act_on(request: Request, action: str, form: dict[str, str], user: Any) -> Response:
    perform = _ACTIONS[action]
    connection = form.get("connection", "")
    require("PUT", connection, user)
    actions.find_grant(connection)
    try:
        return perform(request, connection, form, user)
    except (OAuth2Error, OAuth2ProtocolError) as failure:
        if perform is _poll_device:
            return JSONResponse({"error": str(failure)}, 409)
        return _leave_note(request, connection, Note("fail", str(failure)))


for _action in _ACTIONS:
    router.add_api_route(f"/{_action}", act, methods=["POST"])


# ---------------------------------------------------------------------------------------------------- answers


def _note_outcome(request: Request, connection: str, outcome: browser_sign_in.Outcome) -> Response:
    text = f"You have signed in. The tokens are in the store {outcome.store!r}, and tasks use them at once."
    if outcome.granted:
        text += f" Granted: {' '.join(outcome.granted)}."
    if outcome.missing:
        text += f" Not granted, although asked for: {' '.join(outcome.missing)}."
    return _leave_note(request, connection, Note("warn" if outcome.missing else "ok", text))


def _leave_note(request: Request, connection: str, note: Note) -> Response:
    """Send the browser to the grant's page, where it shows ``note`` once: reloading that does nothing again."""
    response = RedirectResponse(f"grant?{urlencode({'connection': connection})}", 303)
    members = {"level": note.level, "text": note.text[:1500], "connection": connection}
    session.set_cookie(request, response, NOTE_COOKIE, session.seal(_NOTE, members), 60)
    return response


def _grant_page(
    request: Request,
    connection: str,
    user: Any,
    note: Note | None = None,
    findings: list[Finding] | None = None,
    status: int = 200,
) -> Response:
    return _page(
        request,
        user,
        "grant.html",
        status=status,
        grant=actions.find_grant(connection),
        note=note,
        findings=look_at(connection) if findings is None else findings,
        may_act=api_server.is_permitted("PUT", connection, user),
    )


def _page(request: Request, user: Any, template: str, status: int = 200, **values: Any) -> Response:
    text = _templates.get_template(template).render(
        **values,
        form_token=session.form_token(request, user),
        form_field=session.FORM_FIELD,
        user_name=user.get_name(),
        airflow=f"{api_server.base_path()}/",
    )
    response = HTMLResponse(text, status)
    session.keep_session(request, response)
    return response


async def _add_headers(request: Request, call_next: Any) -> Response:
    response: Response = await call_next(request)
    response.headers.update(_HEADERS)
    return response


async def _show_refusal(request: Request, error: Exception) -> Response:
    """Answer in the right form: JSON for scripts, a page for people, the login page for those who are not signed in."""
    if isinstance(error, RequestValidationError):
        error = HTTPException(422, "The address has to name a connection: connection=NAME.")
    if not isinstance(error, StarletteHTTPException):
        raise error
    path = request.scope["path"].rpartition(api_server.PAGES_PREFIX)[2]
    if path.startswith("/json") or path == "/device-poll":
        return JSONResponse({"detail": error.detail}, error.status_code)
    if error.status_code == 401 and request.method == "GET":
        # Not back to a callback: its answer counts once only, for the person who began the sign-in.
        here = f"{api_server.base_url()}{api_server.PAGES_PREFIX}/"
        if path != "/callback":
            here += f"{path.lstrip('/')}{'?' if request.url.query else ''}{request.url.query}"
        return RedirectResponse(f"{api_server.base_url()}/api/v2/auth/login?{urlencode({'next': here})}", 303)
    text = _templates.get_template("message.html").render(
        title="Not possible", text=str(error.detail), connection="", user_name="", airflow=f"{api_server.base_path()}/"
    )
    return HTMLResponse(text, error.status_code)
