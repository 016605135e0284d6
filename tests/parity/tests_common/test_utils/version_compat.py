"""Which Airflow this is."""

AIRFLOW_V_3_0_PLUS = True
