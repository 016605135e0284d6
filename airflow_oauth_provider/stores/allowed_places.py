"""What a connection may name outside itself: files, secrets, hosts of cloud services, other Airflow connections.

Who edits a connection is not trusted with the files of the worker, with its cloud identity, or with other teams'
secrets. So whatever a connection names is held against lists in the section ``[oauth2]`` of ``airflow.cfg``. Everything
here is pure, but for the resolving of symbolic links.

There is one more way: a secret or a file that itself names the connections that may use it, in the member
``airflow_connection``, may stand anywhere. Who can write there has the right to decide.

In the lists of files and secrets ``{conn_id}`` stands for the connection's id, so that a connection has places of its
own that no other one may name. Where a function takes a ``conn_id`` and a ``key``, these are the connection, and the
key of its extra that names the place.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from airflow_oauth_provider.exceptions import ConfigurationError, OAuth2Error, StoreNotWritable

#: The member of a secret or file that says which connections may use it: a conn_id, or a list of them.
MEMBER = "airflow_connection"
#: What stands for the connection's id in the lists.
OWN = "{conn_id}"
#: Folders with CA certificates that everybody may read anyway.
CA_FOLDERS = ("/etc/ssl/certs", "/etc/pki/tls/certs", "/etc/pki/ca-trust/extracted", "/usr/local/share/ca-certificates")

#: Names that no program reads in two ways: no escapes, no white space, nothing that ends a path in a URL.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_+=.@:/-]+")
#: Characters of a connection's id that mean nothing in a path; ``=`` is none of them, so that no two ids meet.
_NOT_IN_PLACES = re.compile(r"[^A-Za-z0-9_.-]|^\.+$")
_EXTENSION = r"\.[A-Za-z0-9]{1,16}"
_HOST = re.compile(r"(?P<host>[a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:]+\])(:(?P<port>\d{1,5}))?")


class AnothersPlace(ConfigurationError):
    """The place belongs to a connection of another id. "Test connection" knows the id of none."""


@dataclass(frozen=True, slots=True)
class Permit:
    """Whether a connection may use one place.

    :param refusal: what to raise unless the place itself names the connection; None: it may use the place, unless that
        names others.
    :param is_local: whether the place is on this machine, where even a passing failure would tell what is there.
    """

    conn_id: str
    refusal: ConfigurationError | None = None
    is_local: bool = False

    def hides(self, failure: OAuth2Error) -> bool:
        """Tell whether a failed read has to look like a refusal: whether there is anything is nobody's business.

        A remote store that is away for now may be said to be away.
        """
        return self.refusal is not None and (self.is_local or isinstance(failure, StoreNotWritable))

    def check(self, named: Sequence[str] | None) -> None:
        """Raise ConfigurationError unless the connection may use the place.

        :param named: the connections that the place names; None where it names none.
        """
        if named is None:
            if self.refusal is not None:
                raise self.refusal
        elif self.conn_id not in named:
            raise self.refusal or ConfigurationError(
                f"the place that it keeps its tokens in is for other connections, as its member {MEMBER!r} says. "
                "Whoever writes to that place can add this one.",
                conn_id=self.conn_id,
            )


def read_named(value: Any) -> tuple[str, ...] | None:
    """Return the connections that the value of a member ``airflow_connection`` names; None where there is no member.

    A value that cannot be read names nobody.
    """
    if value is None:
        return None
    if isinstance(value, str):
        return (value,)
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def name_place(conn_id: str) -> str:
    """Return what stands for a connection in the names of its places, and for no other one: its id, escaped."""
    return _NOT_IN_PLACES.sub(lambda found: "".join(f"={byte:02x}" for byte in found[0].encode()), conn_id)


def is_file_allowed(path: str, folders: Iterable[str], conn_id: str) -> bool:
    """Tell whether ``path`` is in one of ``folders``, once symbolic links and ``..`` are resolved in both.

    :param path: an absolute path; the file need not exist.
    :param folders: absolute paths. One that ends with ``{conn_id}`` also stands for files of that name, with any
        extension: ``xero.json``.
    """
    if not os.path.isabs(path) or "\0" in path:
        return False
    real = os.path.realpath(path)
    return any(
        _is_below(real, os.path.realpath(folder.replace(OWN, name_place(conn_id))), with_extension=folder.endswith(OWN))
        for folder in folders
        if os.path.isabs(folder)
    )


def _is_below(real: str, root: str, *, with_extension: bool) -> bool:
    if os.path.commonpath([real, root]) == root:
        return True
    return with_extension and re.fullmatch(re.escape(root) + _EXTENSION, real) is not None


def is_secret_allowed(name: str, patterns: Iterable[str], conn_id: str) -> bool:
    """Tell whether the name of a secret fits one of ``patterns``, in which ``*`` stands for any characters.

    :param name: as the secret store takes it: a path, a name, an ARN.
    :param patterns: such as ``airflow/oauth2/{conn_id}/*``.
    """
    if not _PLAIN_NAME.fullmatch(name) or any(part in ("", ".", "..") for part in name.split("/")):
        return False
    return any(fnmatchcase(name, pattern.replace(OWN, name_place(conn_id))) for pattern in patterns)


def is_host_allowed(host: str, patterns: Iterable[str]) -> bool:
    """Tell whether a host fits one of ``patterns``, in which ``*`` stands for one label, or any port.

    :param host: as in a URL, with a port perhaps; 443 is the same as none.
    :param patterns: such as ``*.vault.azure.net``.
    """
    found = _HOST.fullmatch(host.lower().removesuffix("."))
    if found is None or ".." in host:
        return False
    plain = found["host"] if found["port"] in (None, "443") else found[0]
    return any(re.fullmatch(_host_pattern(pattern), plain) for pattern in patterns)


def _host_pattern(pattern: str) -> str:
    return "[a-z0-9-]+".join(re.escape(part) for part in pattern.lower().removesuffix(":443").split("*"))


def check_form(
    conn_id: str, key: str, value: str | None, right: str, form: re.Pattern[str] = re.compile(".+", re.DOTALL)
) -> str:
    """Return what a connection names, if it has its form: a name of another form could lead elsewhere in a URL.

    :param value: the value of ``key``.
    :param right: what it has to be, for the error.
    :param form: what the whole of it has to match.
    :raises ConfigurationError: it is missing or has another form.
    """
    if value and form.fullmatch(value):
        return value
    named = f"the key {key!r} of its extra"
    wrong = f"{named} is {value!r}, but" if value else f"with its store, {named}"
    raise ConfigurationError(f"{wrong} has to be {right}.", conn_id=conn_id)


def check_file(conn_id: str, key: str, path: str, folders: Sequence[str]) -> None:
    """Raise ConfigurationError unless a connection may name a file.

    :param folders: those of ``[oauth2] allowed_folders``, and what else is allowed for this key.
    """
    file_permit(conn_id, key, path, folders).check(None)


def file_permit(conn_id: str, key: str, path: str, folders: Sequence[str]) -> Permit:
    """Return whether a connection may use a file; a refusal is the same whether the file exists or not.

    :param folders: those of ``[oauth2] allowed_folders``.
    """
    if is_file_allowed(path, folders, conn_id):
        return Permit(conn_id, is_local=True)
    of_any = [folder.partition(OWN)[0] for folder in folders if OWN in folder]
    kind = AnothersPlace if is_file_allowed(path, of_any, conn_id) else ConfigurationError
    return Permit(conn_id, _refuse(conn_id, key, f"the file {path!r}", "allowed_folders", folders, kind), is_local=True)


def secret_permit(conn_id: str, key: str, name: str, patterns: Sequence[str]) -> Permit:
    """Return whether a connection may use a secret.

    :param name: the secret's name, as :func:`is_secret_allowed` takes it.
    :param patterns: those of ``[oauth2] allowed_secrets``.
    """
    if is_secret_allowed(name, patterns, conn_id):
        return Permit(conn_id)
    of_any = [pattern.replace(OWN, "*") for pattern in patterns if OWN in pattern]
    kind = AnothersPlace if is_secret_allowed(name, of_any, conn_id) else ConfigurationError
    return Permit(conn_id, _refuse(conn_id, key, f"the secret {name!r}", "allowed_secrets", patterns, kind))


def check_host(conn_id: str, key: str, host: str, patterns: Sequence[str]) -> None:
    """Raise ConfigurationError unless a connection may have the worker's cloud identity sent to a host.

    :param host: with a port perhaps.
    :param patterns: those of ``[oauth2] allowed_endpoints``.
    """
    if not is_host_allowed(host, patterns):
        raise _refuse(conn_id, key, f"the host {host!r}", "allowed_endpoints", patterns)


def check_connection(conn_id: str, key: str, named: str, patterns: Sequence[str]) -> None:
    """Raise ConfigurationError unless a connection may use the identity of another Airflow connection.

    :param named: the other one.
    :param patterns: those of ``[oauth2] allowed_connections``.
    """
    if not any(fnmatchcase(named, pattern) for pattern in patterns):
        raise _refuse(conn_id, key, f"the Airflow connection {named!r}", "allowed_connections", patterns)


def _refuse(
    conn_id: str,
    key: str,
    what: str,
    option: str,
    allowed: Sequence[str],
    kind: type[ConfigurationError] = ConfigurationError,
) -> ConfigurationError:
    place = "secret" if option == "allowed_secrets" else "file" if key == "file_path" else ""
    itself = f" Or the {place} itself names this connection in its member {MEMBER!r}." if place else ""
    shown = ", ".join(entry.replace(OWN, name_place(conn_id)) for entry in allowed)
    return kind(
        f"the key {key!r} of its extra names {what}, which this deployment does not allow. "
        f"Allowed are: {shown or 'none'}. Whoever runs Airflow can add it to {option} in the section "
        f"[oauth2] of airflow.cfg, wherever tasks run and in the API server.{itself}",
        conn_id=conn_id,
    )
