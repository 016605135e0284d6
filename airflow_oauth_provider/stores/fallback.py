"""Where new tokens go, encrypted, when their store stays away after the refresh token was spent."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from airflow_oauth_provider.compat import deployment, variables
from airflow_oauth_provider.exceptions import OAuth2Error, StoreUnavailable
from airflow_oauth_provider.stores.file import replace_file
from airflow_oauth_provider.tokens.record import FallbackStore


class VariableFallback:
    """Keeps ciphertext in Airflow variables, which every worker sees."""

    def save(self, key: str, ciphertext: str) -> None:
        """Keep ``ciphertext`` under ``key``; see :class:`FallbackStore`."""
        variables.write_variable(
            key, ciphertext, "OAuth 2.0 tokens that their store did not take. Removed when they are recovered."
        )

    def load(self, key: str) -> str | None:
        """Return what is kept under ``key``; see :class:`FallbackStore`."""
        return variables.read_variable(key)

    def remove(self, key: str) -> None:
        """Forget ``key``; see :class:`FallbackStore`."""
        variables.delete_variable(key)


class PathFallback:
    """Keeps ciphertext in files: a local folder, or anything that Airflow's ``ObjectStoragePath`` can reach.

    :param folder: a path, or a URL such as ``s3://conn_id@bucket/folder``. None takes
        ``[oauth2] fallback_path``, by default the folder ``oauth2_fallback`` below ``AIRFLOW_HOME``. A local
        folder is of use to other machines only where they share it.
    """

    def __init__(self, folder: str | None = None) -> None:
        self._folder = folder

    def save(self, key: str, ciphertext: str) -> None:
        """Keep ``ciphertext`` under ``key``; see :class:`FallbackStore`."""
        with _explain("save to"):
            path = self._path(key)
            if isinstance(path, Path):
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                replace_file(path, ciphertext)
            else:
                path.write_text(ciphertext)

    def load(self, key: str) -> str | None:
        """Return what is kept under ``key``; see :class:`FallbackStore`."""
        with _explain("read"), contextlib.suppress(FileNotFoundError):
            return str(self._path(key).read_text())
        return None

    def remove(self, key: str) -> None:
        """Forget ``key``; see :class:`FallbackStore`."""
        with _explain("remove from"), contextlib.suppress(FileNotFoundError):
            self._path(key).unlink()

    def _path(self, key: str) -> Any:
        from airflow_oauth_provider.compat.sdk import ObjectStoragePath

        folder = self._folder or deployment.fallback_path()
        if not folder:
            return Path(deployment.airflow_home()) / "oauth2_fallback" / key
        if "://" in folder and not folder.startswith("file://"):
            return ObjectStoragePath(folder) / key
        return Path(folder.removeprefix("file://")).expanduser() / key


@contextlib.contextmanager
def _explain(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - each kind of storage has errors of its own
        raise StoreUnavailable(f"Could not {what} the fallback folder ({type(error).__name__}).") from None


class FallbackChain:
    """Several fallback stores as one: saves to the first that works, looks in all.

    :param stores: the preferred one first.
    """

    def __init__(self, stores: Sequence[FallbackStore]) -> None:
        self._stores = stores

    def save(self, key: str, ciphertext: str) -> None:
        """Keep ``ciphertext`` in the first store that takes it; see :class:`FallbackStore`."""
        failures: list[str] = []
        for store in self._stores:
            with _note_failure(store, failures):
                store.save(key, ciphertext)
                return
        raise StoreUnavailable("No fallback store took the tokens. " + " ".join(failures))

    def load(self, key: str) -> str | None:
        """Return what any of the stores has; see :class:`FallbackStore`."""
        failures: list[str] = []
        for store in self._stores:
            with _note_failure(store, failures):
                found = store.load(key)
                if found is not None:
                    return found
        if failures:  # the one that did not answer may have it
            raise StoreUnavailable("It cannot be told whether tokens are in a fallback store. " + " ".join(failures))
        return None

    def remove(self, key: str) -> None:
        """Forget ``key`` in all stores; see :class:`FallbackStore`."""
        failures: list[str] = []
        for store in self._stores:
            with _note_failure(store, failures):
                store.remove(key)
        if failures:
            raise StoreUnavailable(" ".join(failures))


@contextlib.contextmanager
def _note_failure(store: FallbackStore, failures: list[str]) -> Iterator[None]:
    """Add who failed, and how, to ``failures``: whatever ails one store, the next one may work."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - as said
        # A message that is not ours might quote what was to be kept.
        reason = str(error) if isinstance(error, OAuth2Error) else f"{type(error).__name__}."
        failures.append(f"{type(store).__name__}: {reason}")


def open_fallback() -> FallbackStore:
    """Return where tokens go while their store is away: one place for all connections, since they may share a record.

    What is kept there is named after the record.
    """
    if deployment.multi_team():
        return FallbackChain([PathFallback()])  # a variable of one team is not seen by the others
    return FallbackChain([VariableFallback(), PathFallback()])
