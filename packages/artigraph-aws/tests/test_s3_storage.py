"""S3 as a storage, on a real server: the contract, and what is its own."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any
from uuid import uuid4

import boto3
import pytest

from artigraph.testing import StorageTests
from artigraph_aws import S3Storage

pytestmark = pytest.mark.s3


@pytest.fixture(autouse=True)
def credentials(s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the standard chain finds."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    monkeypatch.setenv("AWS_REGION", s3_server.region)


@pytest.fixture(scope="module")
def s3(s3_server: Any) -> Iterator[Any]:
    """A client of another library, to look behind the storage's back."""
    client = boto3.client(
        "s3",
        endpoint_url=s3_server.endpoint_url,
        aws_access_key_id=s3_server.access_key,
        aws_secret_access_key=s3_server.secret_key,
        region_name=s3_server.region,
    )
    with closing(client):
        yield client


class TestS3Storage(StorageTests):
    """A bucket keeps what every storage promises to keep."""

    @pytest.fixture(autouse=True)
    def look_behind(self, s3: Any) -> None:
        self.s3 = s3

    @pytest.fixture
    def storage(self, s3_server: Any) -> S3Storage:
        return S3Storage(s3_server.bucket, uuid4().hex, endpoint_url=s3_server.endpoint_url)

    def plant(self, storage: S3Storage, location: str, data: bytes) -> None:
        self.s3.put_object(Bucket=storage.bucket, Key=f"{storage.prefix}/{location}", Body=data)

    def inspect(self, storage: S3Storage, location: str) -> bytes | None:
        try:
            found = self.s3.get_object(Bucket=storage.bucket, Key=f"{storage.prefix}/{location}")
        except self.s3.exceptions.NoSuchKey:
            return None
        return found["Body"].read()
