"""Authorization of ``requests`` by an access token that is kept fresh."""

from airflow_oauth_provider.http.auth import OAuth2Auth

__all__ = ["OAuth2Auth"]
