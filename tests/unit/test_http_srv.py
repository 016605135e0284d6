"""Hosts that DNS names for an API: which of them may have the token, and what they have to prove."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import dns.resolver
import dns.rrset
import pytest

from airflow_oauth_provider.exceptions import ApiError, ConfigurationError
from airflow_oauth_provider.http import srv

BASE = "https://_http._tcp.api.example.com"


def record(target, port=443, priority=1, weight=1):
    return f"{priority} {weight} {port} {target}."


def rrset(*records):
    return dns.rrset.from_text("_http._tcp.api.example.com.", 60, "IN", "SRV", *records)


def answers(monkeypatch, *records):
    asked, answer = [], SimpleNamespace(rrset=rrset(*records))
    monkeypatch.setattr(dns.resolver, "resolve", lambda name, kind: asked.append((name, kind)) or answer)
    return asked


def test_hosts_below_the_connections_domain_are_tried_by_priority(monkeypatch):
    asked = answers(
        monkeypatch,
        record("b.api.example.com", 8443, 2),
        record("API.example.com"),
        record("a.b.api.example.com", 1, 3),
    )
    assert srv.find_base_urls("api", BASE, lambda _: False) == [
        "https://api.example.com:443",
        "https://b.api.example.com:8443",
        "https://a.b.api.example.com:1",
    ]
    assert asked == [("_http._tcp.api.example.com", "SRV")]


@pytest.mark.parametrize(
    "target",
    [
        "evil.example",
        "example.com",
        "www.example.com",
        "evilapi.example.com",
        "api.example.com.evil.example",
        "10.0.0.1",
    ],
)
def test_any_other_host_ends_the_run_before_anything_is_sent(monkeypatch, target):
    answers(monkeypatch, record("a.api.example.com"), record(target))
    with pytest.raises(ConfigurationError, match=rf"'api': DNS names {target} .*allowed_hosts"):
        srv.find_base_urls("api", BASE, lambda _: False)
    asked = []
    assert len(srv.find_base_urls("api", BASE, lambda url: asked.append(url) or True)) == 2
    assert asked == [f"https://{target}:443"], "allowed_hosts decides, with the port"


@pytest.mark.parametrize("host", ["https://_http._tcp", "https://localhost", "https://_sip._tcp.local"])
def test_a_name_without_a_domain_is_refused(monkeypatch, host):
    answers(monkeypatch, record("evil.local"))
    with pytest.raises(ConfigurationError, match=r"_http\._tcp"):
        srv.find_base_urls("api", host, lambda _: False)


def test_no_answer_of_dns_is_worth_another_try(monkeypatch):
    def fail(*_):
        raise dns.resolver.NXDOMAIN

    monkeypatch.setattr(dns.resolver, "resolve", fail)
    with pytest.raises(ApiError, match=r"'api': DNS has no SRV record of _http\._tcp\.api\.example\.com \(NXDOMAIN\)"):
        srv.find_base_urls("api", BASE, lambda _: False)


def test_weights_share_out_equal_priorities():
    kinds = [record("a", weight=9), record("b", weight=1), record("c", weight=0), record("z", priority=2, weight=99)]
    records = rrset(*kinds)
    first = Counter(srv.order_targets(records)[0][0] for _ in range(2000))
    assert first["a"] > first["b"] > first["c"]
    assert first["z"] == 0
    assert all(srv.order_targets(records)[3][0] == "z" for _ in range(50))
    assert {host for host, _ in srv.order_targets(records)} == {"a", "b", "c", "z"}
