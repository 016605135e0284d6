"""The life cycle of tokens: when to refresh, who may, and how nothing is lost. It knows no Airflow."""
