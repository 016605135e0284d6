"""What runs inside Airflow's API server: the route by which tasks of Airflow 3 write tokens into connections."""
