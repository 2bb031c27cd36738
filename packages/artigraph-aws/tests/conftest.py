"""The settings of the server under test."""

from typing import Any

import pytest


@pytest.fixture(autouse=True)
def settings(s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the standard chain of AWS finds."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    monkeypatch.setenv("AWS_REGION", s3_server.region)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_server.endpoint_url)
