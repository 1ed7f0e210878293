"""What the tests of bulk runs share: a store that is reached over HTTP, and keys for it."""

import pytest
from s3_server import ACCESS_KEY, SECRET_KEY, S3Server


@pytest.fixture
def keys(monkeypatch, tmp_path):
    """The keys of the store, as its own programs find them."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))


@pytest.fixture
def s3(keys):
    with S3Server() as server:
        yield server
