"""Posts to Slack when a person has to do something about a grant.

Put this module where every Airflow process imports it, such as the plugins folder, and name it in airflow.cfg:

    [oauth2]
    listeners = slack_notice:post_to_slack

It needs apache-airflow-providers-slack, and its connection `slack_default` with an incoming webhook.
"""

from __future__ import annotations

from airflow_oauth_provider.connection.notices import Notice

SYMBOLS = {"sign_in_again": ":red_circle:", "ends_soon": ":large_yellow_circle:", "works_again": ":large_green_circle:"}


def post_to_slack(notice: Notice) -> None:
    """Post one message. The text says what to do, and has the address of the page where it is done."""
    from airflow.providers.slack.hooks.slack_webhook import SlackWebhookHook

    symbol = SYMBOLS.get(notice.kind, ":warning:")
    SlackWebhookHook(slack_webhook_conn_id="slack_default").send(text=f"{symbol} {notice}")
