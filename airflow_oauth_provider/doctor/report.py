"""What the doctor found."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from airflow_oauth_provider.exceptions import OAuth2Error
from airflow_oauth_provider.stores.allowed_places import AnothersPlace

Level = Literal["ok", "warn", "fail"]
#: What to do where a test cannot tell.
RUN_THE_DOCTOR = "Run 'airflow oauth2 doctor' where the tasks run."


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    :param level: ``ok``; ``warn``: it works, but not for ever; ``fail``: it does not work.
    :param check: what was looked at, in a word or two.
    :param text: what was found. Never a secret.
    :param change: what to change; empty where there is nothing to.
    """

    level: Level
    check: str
    text: str
    change: str = ""


@dataclass(slots=True)
class Report:
    """All findings on one connection, in the order they were made."""

    conn_id: str
    findings: list[Finding] = field(default_factory=list)
    #: Whether ``conn_id`` is the connection's own; "Test connection" gets a random one.
    knows_id: bool = True

    def ok(self, check: str, text: str) -> None:
        """Note that something is as it should be."""
        self.findings.append(Finding("ok", check, text))

    def warn(self, check: str, text: str, change: str = "") -> None:
        """Note what works now, but not for ever."""
        self.findings.append(Finding("warn", check, text, change))

    def fail(self, check: str, text: str, change: str = "") -> None:
        """Note what does not work."""
        self.findings.append(Finding("fail", check, text, change))

    def refuse(self, check: str, failure: OAuth2Error) -> None:
        """Note that the connection is wrong; or, where its id is not known, that this cannot be told."""
        if isinstance(failure, AnothersPlace) and not self.knows_id:
            text = "the connection names a place of its own, by its id, which a test does not know: it is not tried"
            self.warn(check, text, RUN_THE_DOCTOR)
        else:
            self.fail(check, str(failure))

    @property
    def failed(self) -> bool:
        """Whether anything does not work."""
        return any(finding.level == "fail" for finding in self.findings)

    def has_failed(self, *checks: str) -> bool:
        """Tell whether one of ``checks`` found what does not work."""
        return any(finding.level == "fail" and finding.check in checks for finding in self.findings)

    def has_doubts(self, *checks: str) -> bool:
        """Tell whether one of ``checks`` found what is not certain."""
        return any(finding.level == "warn" and finding.check in checks for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Return the report for programs."""
        findings = [asdict(finding) for finding in self.findings]
        return {"connection": self.conn_id, "healthy": not self.failed, "findings": findings}
