"""A hook of mkdocs: links out of `docs/` into the repository become their text, for the site has no such page."""

from __future__ import annotations

import re
from typing import Any

OUTSIDE = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])+)\]\((?:\.\./)+(?!docs/)[^)]*\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Called by mkdocs for each page; links between pages stay as they are."""
    if "/" in page.file.src_uri:  # ../stores.md in a folder of docs/ is a page
        return re.sub(OUTSIDE.pattern.replace(r"(?:\.\./)+", r"(?:\.\./){2,}"), r"\1", markdown)
    return OUTSIDE.sub(r"\1", markdown)
