"""Remote stores, started here."""

from __future__ import annotations

import gc
import os
import threading
import uuid

import fsspec
import pytest
from servers import S3, PlainWeb, Web

BUCKET = "models"


@pytest.fixture(scope="session")
def s3_server():
    """moto's S3, with one bucket, in fsspec's own configuration."""
    server = S3()
    os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_DEFAULT_REGION="us-east-1")
    fsspec.config.conf["s3"] = {"client_kwargs": {"endpoint_url": server.url}}
    fsspec.filesystem("s3").mkdir(BUCKET)
    yield server
    fsspec.filesystem("s3").clear_instance_cache()
    gc.collect()
    server.close()


@pytest.fixture
def s3(s3_server):
    """The S3 server, without requests so far."""
    s3_server.asked.clear()
    return s3_server


@pytest.fixture
def s3_url(s3):
    """The URL of a new folder in the bucket, removed afterwards because other tests list the whole bucket."""
    url = f"s3://{BUCKET}/{uuid.uuid4().hex}"
    yield url
    fs = fsspec.filesystem("s3")
    fs.invalidate_cache()
    if fs.exists(url):
        fs.rm(url, recursive=True)


@pytest.fixture
def web(tmp_path):
    """A web server with ranges, over the test's folder."""
    server = Web(tmp_path)
    yield server
    server.close()


@pytest.fixture
def plain_web(tmp_path):
    """A web server without ranges."""
    server = PlainWeb(tmp_path)
    yield server
    server.close()


@pytest.fixture(scope="module", autouse=True)
def _nothing_left():
    """Check that no thread of lazyckpt is left; servers keep theirs, and their objects, until the end."""
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("lazyckpt")] == []
