"""What forms show of the presets: their names, and what each vendor needs. Listing them must not read the data.

A test holds this table and ``vendors.json`` together.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

PRESET_LABELS: Mapping[str, str] = MappingProxyType(
    {
        "adobe_acrobat_sign": "Adobe Acrobat Sign: needs shard",
        "airtable": "Airtable",
        "amazon_selling_partner": "Amazon Selling Partner API",
        "asana": "Asana",
        "atlassian": "Atlassian Cloud (Jira, Confluence): needs scope offline_access",
        "auth0": "Auth0: needs domain, scope offline_access",
        "basecamp": "Basecamp: needs account_id",
        "box": "Box",
        "calendly": "Calendly",
        "clover": "Clover (North America)",
        "constant_contact": "Constant Contact: needs scope offline_access",
        "docusign": "DocuSign: needs account_host",
        "dropbox": "Dropbox",
        "ebay": "eBay",
        "etsy": "Etsy",
        "exact_online": "Exact Online: needs tld",
        "figma": "Figma",
        "fitbit": "Fitbit",
        "freshbooks": "FreshBooks",
        "github": "GitHub App (user access tokens)",
        "gitlab": "GitLab: needs gitlab_host",
        "gong": "Gong",
        "google": "Google",
        "hubspot": "HubSpot",
        "linear": "Linear",
        "linkedin": "LinkedIn",
        "microsoft_entra": "Microsoft Entra ID: needs tenant, scope offline_access",
        "miro": "Miro",
        "notion": "Notion",
        "okta": "Okta: needs domain, server, scope offline_access",
        "pipedrive": "Pipedrive",
        "procore": "Procore",
        "quickbooks": "Intuit QuickBooks Online",
        "reddit": "Reddit",
        "ringcentral": "RingCentral",
        "salesforce": "Salesforce: needs domain, scope refresh_token",
        "shopify": "Shopify (expiring offline tokens): needs shop",
        "slack": "Slack (token rotation)",
        "smartcar": "Smartcar",
        "snowflake": "Snowflake OAuth (custom client): needs account",
        "spotify": "Spotify",
        "square": "Square",
        "strava": "Strava",
        "x": "X (Twitter): needs scope offline.access",
        "xero": "Xero: needs scope offline_access",
        "zoho": "Zoho: needs dc",
        "zoom": "Zoom",
    }
)
"""By the name of the preset: the vendor, and after a colon the parameters and the scope that it needs."""
