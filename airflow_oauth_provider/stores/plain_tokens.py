"""Tokens that stand by themselves beside the record, where people enter them and other programs read them.

JSON documents and key vaults have this in common: refresh token and access token stand there in places of their own.
So a rotation writes both, and a refresh token that a person enters there is found.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from airflow_oauth_provider.tokens.record import Record, fingerprint


@dataclass(frozen=True, slots=True)
class PlainTokens:
    """What stands beside the record.

    :param refresh_token: None where there is none.
    :param access_token: None where there is none.
    :param expires_at: seconds since the epoch at which the access token ends, None where it does not say.
    """

    refresh_token: str | None = field(default=None, repr=False)
    access_token: str | None = field(default=None, repr=False)
    expires_at: float | None = None

    def first_record(self) -> Record | None:
        """Return what counts as the record while nobody has written one: the tokens as entered, if any."""
        if not self.refresh_token and not self.access_token:
            return None
        return Record(
            entered_fingerprint=fingerprint(self.refresh_token),
            refresh_token=self.refresh_token,
            access_token=self.access_token,
            expires_in=self.expires_at,  # counted from issued_at, which is 0: the epoch
        )

    def is_replaced_by(self, new: Record, *ours: str | None) -> bool:
        """Tell whether the refresh token is one that ``new`` replaces.

        One that a person has entered meanwhile stays: the next refresh begins with it.

        :param new: the record that is about to be written.
        :param ours: fingerprints of refresh tokens that this package has written there.
        """
        if not self.refresh_token:
            return True
        marks = (*ours, new.entered_fingerprint, *new.superseded, fingerprint(new.refresh_token))
        return fingerprint(self.refresh_token) in marks
