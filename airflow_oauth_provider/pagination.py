"""Paginators: how an API says where its next page is."""

from airflow_oauth_provider.http.page import Page, PageRequest
from airflow_oauth_provider.http.pagination import (
    Cursor,
    LinkHeader,
    NextUrl,
    OffsetLimit,
    PageNumber,
    Paginator,
    paginator_from_dict,
)

__all__ = [
    "Cursor",
    "LinkHeader",
    "NextUrl",
    "OffsetLimit",
    "Page",
    "PageNumber",
    "PageRequest",
    "Paginator",
    "paginator_from_dict",
]
