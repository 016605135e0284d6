"""The protocol: RFC 6749 and its neighbours as a client sees them. Knows nothing of Airflow."""
