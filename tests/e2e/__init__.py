"""Tests on a running Airflow. A package, so that its fixtures end with its last test."""
