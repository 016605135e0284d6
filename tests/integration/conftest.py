"""The real servers, each started with the first test that asks for it."""

from rig.fixtures import (
    authorization_server,
    aws_server,
    django_server,
    mtls_authorization_server,
    openbao,
    postgres,
    scripted_server,
    scripted_tls_server,
    sealable_openbao,
)

__all__ = [
    "authorization_server",
    "aws_server",
    "django_server",
    "mtls_authorization_server",
    "openbao",
    "postgres",
    "scripted_server",
    "scripted_tls_server",
    "sealable_openbao",
]
