"""Settings of the deployment: the section [oauth2] of airflow.cfg."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_oauth_provider.compat import deployment
from airflow_oauth_provider.exceptions import ConfigurationError
from airflow_oauth_provider.get_provider_info import get_provider_info

DOCS = Path(__file__).resolve().parents[2] / "docs" / "deployment.md"
NAMES = [option.name for option in deployment.OPTIONS]


def setting(monkeypatch, name, value):
    monkeypatch.setenv(f"AIRFLOW__OAUTH2__{name.upper()}", value)


def read(name):
    return getattr(deployment, name)()


@pytest.mark.parametrize("name", NAMES)
def test_each_setting_has_a_reader_and_a_default_that_it_can_read(name):
    assert callable(getattr(deployment, name))
    read(name)


def test_what_holds_by_default():
    assert deployment.callback_prefixes() == ()
    assert deployment.settle_time() == 3.0
    assert deployment.fallback_path() == ""


@pytest.mark.parametrize("text", ["", "  ", ",", " , "])
def test_an_empty_list(monkeypatch, text):
    setting(monkeypatch, "callback_prefixes", text)
    assert deployment.callback_prefixes() == ()


def test_a_list(monkeypatch):
    setting(monkeypatch, "callback_prefixes", " a.b, c ,")
    assert deployment.callback_prefixes() == ("a.b", "c")


@pytest.mark.parametrize("text", ["soon", "nan", "inf", "-1", "1,5"])
def test_a_number_that_is_none_is_named(monkeypatch, text):
    setting(monkeypatch, "settle_time", text)
    with pytest.raises(ConfigurationError) as caught:
        deployment.settle_time()
    assert str(caught.value) == (
        f"airflow.cfg: settle_time in the section [oauth2] is '{text}', but has to be a number from 0 on."
    )


def test_an_empty_number_is_the_default(monkeypatch):
    setting(monkeypatch, "settle_time", "")
    assert deployment.settle_time() == 3.0


def test_a_value_that_cannot_be_fetched_is_an_error_and_not_the_default(monkeypatch):
    monkeypatch.setenv("AIRFLOW__OAUTH2__FALLBACK_PATH_CMD", "false")
    monkeypatch.setattr("airflow_oauth_provider.compat.sdk.conf", _Failing(), raising=False)
    with pytest.raises(ConfigurationError, match=r"fallback_path in the section \[oauth2\] cannot be read"):
        deployment.fallback_path()


class _Failing:
    def get(self, *_args, **_kwargs):
        from airflow_oauth_provider.compat.sdk import AirflowConfigException

        raise AirflowConfigException("Cannot execute the command that holds a secret")


def test_airflow_is_told_of_each_setting():
    options = get_provider_info()["config"][deployment.SECTION]["options"]
    assert list(options) == NAMES
    assert {name: option["default"] for name, option in options.items()} == {
        option.name: option.default for option in deployment.OPTIONS
    }


def test_the_docs_have_a_row_of_each_setting():
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", DOCS.read_text(), re.MULTILINE))
    assert sorted(rows) == sorted(NAMES)
    for option in deployment.OPTIONS:
        assert rows[option.name].strip() == (f"`{option.default}`" if option.default else "empty")


def test_the_provider_info_imports_nothing_of_airflow():
    code = (
        "import sys; from airflow_oauth_provider.get_provider_info import get_provider_info; get_provider_info();"
        "sys.exit(any(name.partition('.')[0] == 'airflow' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=DOCS.parents[1]).returncode == 0
