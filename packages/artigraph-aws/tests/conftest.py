"""The settings of the server under test, and a second client to look behind the storage's back."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import boto3
import pytest
from botocore.handlers import add_expect_header


@pytest.fixture(autouse=True)
def settings(s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the standard chain of AWS finds."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    monkeypatch.setenv("AWS_REGION", s3_server.region)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_server.endpoint_url)


@pytest.fixture(scope="session")
def s3(s3_server: Any) -> Iterator[Any]:
    client = boto3.client(
        "s3",
        endpoint_url=s3_server.endpoint_url,
        aws_access_key_id=s3_server.access_key,
        aws_secret_access_key=s3_server.secret_key,
        region_name=s3_server.region,
    )
    # After it, and an empty body, SeaweedFS does not answer the next request of the connection.
    client.meta.events.unregister("before-call.s3", add_expect_header)
    with closing(client):
        yield client
