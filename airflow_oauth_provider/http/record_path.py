"""Where in a page something stands: a JSONPath (RFC 9535), or names with dots between them."""

from __future__ import annotations

from typing import Any

from airflow_oauth_provider.oauth2 import json_paths


def check_path(name: str, path: str | None) -> None:
    """Raise ValueError unless ``path`` can be followed.

    :param name: what the path is called, for the message.
    """
    if path is None:
        return
    if not path:
        raise ValueError(f"{name} is empty; leave it out, or give a path such as data.items or $.data.items")
    if path.startswith("$"):
        try:
            json_paths.check(_without_wildcard(path))
        except json_paths.BadPathError as error:
            raise ValueError(f"{name} {path!r} {error}") from None


def lookup(path: str, document: Any) -> Any:
    """Return what stands at ``path`` in ``document``, None where there is nothing.

    ``$.data.next`` is a JSONPath. ``data.next`` and ``data.0.id`` are names and indices with dots between them; a name
    with a dot of its own (``@odata.nextLink``) needs no quoting.
    """
    if path.startswith("$"):
        return json_paths.find(_without_wildcard(path), document)
    return _follow(path, document)


def _without_wildcard(path: str) -> str:
    # All members of a list: the list itself.
    return path.removesuffix("[*]")


def _follow(path: str, document: Any) -> Any:
    if isinstance(document, dict):
        if path in document:
            return document[path]
        # The longest name first: one that has dots of its own.
        cut = len(path)
        while (cut := path.rfind(".", 0, cut)) >= 0:
            if path[:cut] in document:
                return _follow(path[cut + 1 :], document[path[:cut]])
        return None
    if isinstance(document, list):
        head, _, rest = path.partition(".")
        try:
            member = document[int(head)]
        except (ValueError, IndexError):
            return None
        return _follow(rest, member) if rest else member
    return None
