"""What a person does in the browser. Each step ends when the person sees that it is done.

An address is no such sign: that of Airflow's login page ends with the address of the page which comes next, so a test
that waits for the latter goes on while the login is under way, and its next step breaks that off.
"""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.e2e.person import PREFIX
from tests.servers.airflow import AirflowInstance

PATIENCE = 30_000  # milliseconds; a loaded machine takes its time
expect.set_options(timeout=PATIENCE)


def log_in(page: Page, airflow: AirflowInstance, user: str, password: str) -> None:
    """Ask for the pages of the grants, be sent to Airflow's login, and come back."""
    page.goto(f"{airflow.url}{PREFIX}/")
    page.fill('input[name="username"]', user)
    page.fill('input[name="password"]', password)
    page.click('button[type="submit"]')
    expect(page.get_by_role("navigation", name="Breadcrumb")).to_be_visible()


def open_grant(page: Page, airflow: AirflowInstance, conn_id: str) -> None:
    page.goto(f"{airflow.url}{PREFIX}/grant?connection={conn_id}")


def sign_in_from_the_page(page: Page, airflow: AirflowInstance, conn_id: str) -> None:
    """From the grant's page to the vendor, and back."""
    open_grant(page, airflow, conn_id)
    page.get_by_role("link", name="Sign in", exact=True).click()
    page.get_by_role("button", name="Continue to").click()
    sign_in_at_the_vendor(page)
    expect(page.locator(".note")).to_contain_text("You have signed in")


def sign_in_at_the_vendor(page: Page) -> None:
    """At oidc-provider's own pages: log in, unless that was done before, and consent."""
    log_in_button = page.get_by_role("button", name="Sign-in", exact=True)
    consent_button = page.get_by_role("button", name="Continue", exact=True)
    expect(log_in_button.or_(consent_button)).to_be_visible()
    if log_in_button.is_visible():
        page.fill('input[name="login"]', "test-user")
        page.fill('input[name="password"]', "test-password")
        log_in_button.click()
    consent_button.click()
