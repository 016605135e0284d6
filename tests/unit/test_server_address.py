"""Where tasks find the API server, and where they send no tokens."""

from __future__ import annotations

import pytest

from airflow_oauth_provider.exceptions import ConfigurationError
from airflow_oauth_provider.stores.record_route import find_address

EXECUTION = "http://airflow-api:8080/execution/"
EDGE = "https://edge.example/af/edge_worker/v1/rpcapi/"


@pytest.mark.parametrize(
    ("settings", "url", "setting"),
    [
        (("", EXECUTION, "", "https://ui.example"), "http://airflow-api:8080", "[core] execution_api_server_url"),
        (("", "https://a.example/af/execution", "", ""), "https://a.example/af", "[core] execution_api_server_url"),
        (("", "", "", "https://ui.example/af/"), "https://ui.example/af", "[api] base_url"),
        (("", "", "", ""), "http://localhost:8080", "[api] base_url"),
        (("", "", EDGE, "https://ui.example"), "https://edge.example/af", "[edge] api_url"),
        (("", EXECUTION, EDGE, ""), "http://airflow-api:8080", "[core] execution_api_server_url"),
        (
            ("http://edge.example", "", "http://edge.example/edge_worker/v1/rpcapi", ""),
            "http://edge.example",
            "[oauth2] api_url",
        ),
        (("", "", "", "/af"), "http://localhost:8080/af", "[api] base_url"),
        (("https://api.example/", EXECUTION, "", ""), "https://api.example", "[oauth2] api_url"),
        (("http://127.0.0.1:9000", EXECUTION, "", ""), "http://127.0.0.1:9000", "[oauth2] api_url"),
        (("http://airflow-api:8080/af", EXECUTION, "", ""), "http://airflow-api:8080/af", "[oauth2] api_url"),
        (("http://ui.example", "", "", "http://ui.example:80/x"), "http://ui.example", "[oauth2] api_url"),
    ],
)
def test_the_first_setting_counts(settings, url, setting):
    address = find_address(*settings)
    assert (address.url, address.setting) == (url, setting)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        (("http://elsewhere.example", EXECUTION, "", ""), r"\[oauth2\] api_url has to be https"),
        (("http://airflow-api:8081", EXECUTION, "", ""), r"\[oauth2\] api_url has to be https"),
        (("http://airflow-api", EXECUTION, "", ""), r"\[oauth2\] api_url has to be https"),
        (("ftp://a.example", EXECUTION, "", ""), r"\[oauth2\] api_url has to be an address"),
        (("a.example", EXECUTION, "", ""), r"\[oauth2\] api_url has to be an address"),
        (("https://me:hush@a.example", EXECUTION, "", ""), r"\[oauth2\] api_url has to be an address"),
        (("https://a.example?x=1", EXECUTION, "", ""), r"\[oauth2\] api_url has to be an address"),
        (("https://a.example:port", EXECUTION, "", ""), r"\[oauth2\] api_url has to be an address"),
        (("https://[::1", EXECUTION, "", ""), r"\[oauth2\] api_url has to be an address"),
        (("", "https://a.example/other/", "", ""), r"does not end with '/execution'.*\[oauth2\] api_url"),
        (("", "", "https://edge.example/rpcapi", ""), r"\[edge\] api_url does not end with '/edge_worker/v1/rpcapi'"),
        (("", "nonsense", "", ""), r"\[core\] execution_api_server_url has to be an address"),
    ],
)
def test_what_is_no_address_is_named_and_nothing_secret_is_sent_in_clear(settings, match):
    with pytest.raises(ConfigurationError, match=match) as failure:
        find_address(*settings)
    assert "hush" not in str(failure.value)
