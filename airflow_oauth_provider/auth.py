"""Authorizes ``requests`` with an access token that stays fresh."""

from airflow_oauth_provider.http.auth import OAuth2Auth

__all__ = ["OAuth2Auth"]
