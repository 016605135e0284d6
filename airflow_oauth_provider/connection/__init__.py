"""What an Airflow connection says, as values: its fields, presets and dialects, its secrets and where they may go."""
