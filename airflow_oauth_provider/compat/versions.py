"""Which Airflow this is."""

from __future__ import annotations

import re

from airflow import __version__

__all__ = ["AIRFLOW", "AIRFLOW_V_3_0_PLUS"]


def parse_version(text: str) -> tuple[int, int]:
    """Return major and minor version of ``text``, such as ``(3, 1)`` for ``3.1.6rc1``."""
    major, minor = re.findall(r"\d+", text)[:2]
    return int(major), int(minor)


#: Major and minor version of the Airflow that is installed.
AIRFLOW = parse_version(__version__)
AIRFLOW_V_3_0_PLUS = AIRFLOW >= (3, 0)
