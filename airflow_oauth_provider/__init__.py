"""OAuth 2.0 for Apache Airflow: fresh access tokens, refresh tokens that are never lost or spent twice."""

__version__ = "0.1.0"
