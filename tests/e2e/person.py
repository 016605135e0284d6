"""A person who signs in from the page by plain requests; the browser has a test of its own."""

from __future__ import annotations

from urllib.parse import urlencode

import requests

from tests.servers.airflow import AirflowInstance
from tests.servers.sign_in import authorize_in_browser

PREFIX = "/oauth2-grants"


class Person:
    """Has a session with Airflow as its administrator."""

    def __init__(self, airflow: AirflowInstance, conn_id: str) -> None:
        self._pages = f"{airflow.url}{PREFIX}"
        self._airflow = airflow
        self._conn_id = conn_id
        self.browser = requests.Session()
        self.browser.trust_env = False
        self.browser.cookies.set("_token", airflow.token(), domain="127.0.0.1")

    def begin(self) -> str:
        """Sign in at the vendor; gives the address to which the vendor sends the browser back."""
        text = self.browser.get(f"{self._pages}/sign-in?connection={self._conn_id}", timeout=60).text
        token = text.partition('name="form_token" value="')[2].partition('"')[0]
        form = {"connection": self._conn_id, "form_token": token}
        headers = {"Origin": self._airflow.url}
        left = self.browser.post(f"{self._pages}/start", data=form, headers=headers, timeout=60).text
        url = left.partition('content="0;url=')[2].partition('"')[0].replace("&amp;", "&")
        answer = authorize_in_browser(self.browser, url, f"{self._pages}/callback")
        return f"{self._pages}/callback?{urlencode(answer)}"

    def arrive(self, url: str, **others: str) -> requests.Response:
        """Arrive at ``url`` with the cookies as they are now, and leave them as they are; `others` replace some."""
        cookies = {**self.browser.cookies.get_dict(), **others}
        return requests.get(url, cookies=cookies, allow_redirects=False, timeout=60)

    def sign_in(self) -> None:
        """Sign in, all the way."""
        done = self.browser.get(self.begin(), timeout=60)
        assert "You have signed in" in done.text, done.text
