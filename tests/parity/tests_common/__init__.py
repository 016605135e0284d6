"""What the http provider's tests import of Airflow's own test tools, which are not published."""
