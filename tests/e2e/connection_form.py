"""Airflow's own form of a connection, as a person fills it in."""

from __future__ import annotations

import re

from playwright.sync_api import Locator, Page, expect

from airflow_oauth_provider.connection.fields import FIELDS, Field

SHOWN = [field for field in FIELDS if field.in_form and not field.kept]
SECTIONS = list(dict.fromkeys(field.section for field in SHOWN))


class Form:
    """The dialog in which a person enters or edits a connection."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.dialog = page.get_by_role("dialog")

    @classmethod
    def new(cls, page: Page, conn_id: str) -> Form:
        page.goto("/connections")
        page.get_by_role("button", name="Add Connection").first.click()
        form = cls(page)
        form.dialog.locator("input[name=connection_id]").fill(conn_id)
        kind = form.dialog.get_by_role("combobox").first
        expect(kind).to_be_enabled()
        kind.click()
        kind.fill("OAuth 2.0")
        page.get_by_role("option", name="OAuth 2.0", exact=True).click()
        expect(form.section(SECTIONS[0]).or_(form.section("Extra Fields"))).to_be_visible()
        return form

    @classmethod
    def of(cls, page: Page, conn_id: str) -> Form:
        page.goto("/connections")
        row = page.get_by_role("row").filter(has_text=conn_id)
        row.get_by_role("button", name="Edit Connection").click()
        form = cls(page)
        expect(form.section("Extra Fields JSON")).to_be_visible()
        return form

    def section(self, name: str) -> Locator:
        return self.dialog.get_by_role("button", name=name, exact=True)

    def sections(self) -> list[str]:
        return self.dialog.locator("button[data-part=item-trigger]").all_inner_texts()

    def open(self, name: str) -> None:
        section = self.section(name)
        if not section.count():
            section = self.section("Extra Fields")  # up to Airflow 3.1 all are in this one
        if section.get_attribute("aria-expanded") != "true":
            section.click()
        expect(section).to_have_attribute("aria-expanded", "true")

    def row(self, field: Field) -> Locator:
        """The row of a field that is not required: its label would have an asterisk."""
        label = self.page.locator("label", has_text=re.compile(rf"^{re.escape(field.title)}\s*$"))
        return self.dialog.locator("[data-scope=field][data-part=root]").filter(has=label)

    def standard(self, name: str) -> Locator:
        return self.dialog.locator(f"input[name={name}]")

    def input(self, field: Field) -> Locator:
        self.open(field.section)
        if field.choices or field.kind == "boolean":
            return self.dialog.locator(f"#element_{field.key}").get_by_role("combobox")
        return self.dialog.locator(f"[name=element_{field.key}], #element_{field.key}").first

    def enter(self, key: str, value: str) -> None:
        field = next(field for field in SHOWN if field.key == key)
        self.input(field).fill(value)
        if field.choices or field.kind == "boolean":
            shown = field.labels.get(value, value)
            self.page.get_by_role("option", name=shown, exact=True).click()
            expect(self.dialog.locator(f"#element_{key}")).to_contain_text(shown)
        else:
            self.page.keyboard.press("Tab")

    def save(self) -> None:
        button = self.dialog.get_by_role("button", name="Save")
        expect(button).to_be_enabled()
        button.click()
        expect(self.dialog).to_be_hidden()
