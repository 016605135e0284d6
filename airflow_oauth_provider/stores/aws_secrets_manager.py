"""Tokens in AWS Secrets Manager, with the identity of the worker or of an Airflow connection."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

from airflow_oauth_provider.compat import deployment
from airflow_oauth_provider.exceptions import StoreNotWritable, StoreUnavailable
from airflow_oauth_provider.stores.allowed_places import Permit, check_form, is_secret_allowed, secret_permit
from airflow_oauth_provider.stores.backend import Fetched, StoreOptions
from airflow_oauth_provider.stores.cloud_identity import CloudIdentity, check_packages, find_identity
from airflow_oauth_provider.stores.json_document import JsonDocument, Layout, read_layout
from airflow_oauth_provider.stores.record_store import RecordStore
from airflow_oauth_provider.tokens.json_members import parse_object

#: The label of the version that everybody reads.
CURRENT = "AWSCURRENT"
#: The label of a version that is about to become the current one. A version without a label may be deleted.
PENDING = "AIRFLOW_OAUTH_PENDING"
#: Seconds that one request may take; AWS's own limit is 60, longer than a lease.
_TIMEOUT = 10

_ARN = re.compile(r"arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:\d{12}:secret:(?P<name>[A-Za-z0-9/_+=.@-]+)")
_RANDOM_END = re.compile(r"-[A-Za-z0-9]{6}$")
_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-\d{1,2}")

_LASTING = frozenset({"InvalidRequestException", "ValidationException", "PublicPolicyException"})
_HINTS = {
    "AccessDeniedException": "its identity needs secretsmanager:GetSecretValue, secretsmanager:PutSecretValue and "
    "secretsmanager:UpdateSecretVersionStage on it, and the use of its KMS key",
    "LimitExceededException": "it has too many versions of the last 24 hours. A refresh makes two, and AWS keeps about "
    "100: for access tokens that live less than half an hour choose another store",
    "DecryptionFailure": "its KMS key cannot be used",
}


class AwsBackend:
    """Keeps the record in one member of a secret that is a JSON object, beside whatever people keep there.

    A write is a compare-and-set of the label AWSCURRENT: ``PutSecretValue`` stores the new version under another
    label, and ``UpdateSecretVersionStage`` moves AWSCURRENT to it *from the version that was read*, which AWS
    refuses when the label is somewhere else by then. A reader sees the old version or the new one.

    :param name: name or ARN of the secret. It must exist: "there is none" is also what a wrong region looks like.
    :param layout: where things stand in it.
    :param region: the region; None for what the Airflow connection or the environment says.
    :param identity: whom to act as; None for the worker's own identity.
    :param allowed_name: the name that counted when the connection was allowed to use it: that of an ARN is the secret's
        only if AWS says so, for a name may itself end like an ARN.
    """

    name = "aws_secrets_manager"

    def __init__(
        self,
        conn_id: str,
        name: str,
        layout: Layout,
        region: str | None = None,
        identity: CloudIdentity | None = None,
        allowed_name: str = "",
    ) -> None:
        self._allowed_name = allowed_name or name
        self._conn_id = conn_id
        self._id = name
        self._region = region
        self._identity = identity
        self._document = JsonDocument(layout, f"the AWS secret {name!r}")
        self.where, self.record_where = self._document.where, self._document.record_where
        self._client: Any = None

    def fetch(self) -> Fetched:
        """Return what the secret holds; see :meth:`Backend.fetch`."""
        answer = self._call("read", "get_secret_value", {"VersionStage": CURRENT})
        if self._allowed_name != self._id and answer.get("Name") != self._allowed_name:
            raise StoreNotWritable(
                f"the key 'aws_name' of its extra has the ARN of a secret that is not called {self._allowed_name!r}. "
                "Enter the whole ARN, or the secret's name.",
                conn_id=self._conn_id,
            )
        document = parse_object(answer.get("SecretString"))
        if document is None:
            raise StoreNotWritable(f"{self.where} is not a JSON object. Make it one, if only {{}}.")
        return self._document.to_fetched(document, (answer["VersionId"], document))

    def replace(self, fetched: Fetched, text: str) -> Fetched | None:
        """Make a new version the current one, if the one that was read still is; see :meth:`Backend.replace`."""
        version_id, document = fetched.token
        document = self._document.with_record(document, text)
        new_id = str(uuid.uuid4())
        version = {"ClientRequestToken": new_id, "SecretString": json.dumps(document), "VersionStages": [PENDING]}
        self._call("written", "put_secret_value", version)
        move = {"VersionStage": CURRENT, "MoveToVersionId": new_id, "RemoveFromVersionId": version_id}
        moved = self._call("written", "update_secret_version_stage", move, elsewhere=True)
        return None if moved is None else self._document.to_fetched(document, (new_id, document))

    def _call(self, what: str, method: str, request: dict[str, Any], *, elsewhere: bool = False) -> Any:
        """Send one request.

        :param what: what could not be done, for the error.
        :param method: of AWS's client.
        :param elsewhere: return None where AWS says that the label is not where the request takes it from.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        where = self.where
        try:
            if self._client is None:
                self._client = _new_client(self._region, self._identity)
            return getattr(self._client, method)(SecretId=self._id, **request)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", "an unknown error"))
            if elsewhere and code == "InvalidParameterException":
                return None
            # The message may quote what was sent.
            said = f"{where} could not be {what}: {code}"
            if code == "ResourceNotFoundException":
                raise StoreNotWritable(
                    f"{said}. Create it, if only with {{}}, or check name and region ('aws_name', 'aws_region')."
                ) from None
            if code in _LASTING:
                raise StoreNotWritable(f"{said}.") from None
            hint = f"; {_HINTS[code]}" if code in _HINTS else ""
            raise StoreUnavailable(f"{said}{hint}.") from None
        except BotoCoreError as error:
            kind = type(error).__name__
            hint = " Set 'aws_region'." if kind == "NoRegionError" else ""
            raise StoreUnavailable(f"AWS could not be asked for {where} ({kind}).{hint}") from None


def _new_client(region: str | None, identity: CloudIdentity | None) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(connect_timeout=5, read_timeout=_TIMEOUT, retries={"mode": "standard", "max_attempts": 3})
    if identity is not None:
        asked = {"client_type": "secretsmanager", "region_name": region, "config": config}
        return identity.log_in(
            "amazon",
            "airflow.providers.amazon.aws.hooks.base_aws",
            lambda hooks, named: hooks.AwsGenericHook(named, **asked).get_conn(),
        )
    # A session of its own: the default one is shared by all threads, and not safe to make clients in.
    return boto3.session.Session(region_name=region).client("secretsmanager", config=config)


def find_permit(conn_id: str, options: StoreOptions) -> Permit:
    """Return whether the connection may use the secret that it names; nothing is sent."""
    name = _name_that_counts(conn_id, options.aws_name or "")
    return secret_permit(conn_id, "aws_name", name, deployment.allowed_secrets())


def _name_that_counts(conn_id: str, name: str) -> str:
    """Return ``name`` if the deployment lists it so, else the secret's own name if it is an ARN.

    The last six characters of an ARN are AWS's own.
    """
    arn = _ARN.fullmatch(name)
    if arn is None or is_secret_allowed(name, deployment.allowed_secrets(), conn_id):
        return name
    return _RANDOM_END.sub("", arn["name"])


def open_store(conn_id: str, options: StoreOptions) -> RecordStore:
    """Return the store of a connection with ``store: aws_secrets_manager``.

    :raises ConfigurationError: a key is missing or wrong, or the package for AWS is not installed.
    """
    name = check_form(conn_id, "aws_name", options.aws_name, "the name or ARN of a secret")
    region = options.aws_region
    if region:
        check_form(conn_id, "aws_region", region, "a region of AWS, such as eu-central-1", _REGION)
    identity = find_identity(conn_id, "aws_conn_id", options.aws_conn_id)
    layout = read_layout(conn_id, options.file_map)
    check_packages(conn_id, "aws", "boto3")
    backend = AwsBackend(conn_id, name, layout, region, identity, _name_that_counts(conn_id, name))
    return RecordStore(backend, permit=find_permit(conn_id, options))
