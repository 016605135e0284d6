"""Buttons beside the logs of a task."""
