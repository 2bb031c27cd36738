"""S3 as a storage, on a real server: the contract, its settings, and what it says when refused."""

import asyncio
import pickle
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import aioboto3
import pytest
from aiobotocore.config import AioConfig
from botocore import UNSIGNED

from artigraph.errors import StorageError
from artigraph.spec import new_location
from artigraph.storage import open_storage
from artigraph.testing import StreamingStorageTests
from artigraph_aws import S3Storage

pytestmark = pytest.mark.s3

MIB = 2**20


class TestS3Storage(StreamingStorageTests):
    """A bucket keeps what every storage promises to keep."""

    histories = 15

    @pytest.fixture(autouse=True)
    def look_behind(self, s3: Any) -> None:
        self.s3 = s3

    @pytest.fixture
    def storage(self, s3_server: Any) -> Iterator[S3Storage]:
        storage = S3Storage(s3_server.bucket, uuid4().hex)
        yield storage
        left = self.s3.list_multipart_uploads(Bucket=storage.bucket, Prefix=storage.prefix)
        assert left.get("Uploads", []) == []

    def plant(self, storage: S3Storage, location: str, data: bytes) -> None:
        self.s3.put_object(Bucket=storage.bucket, Key=f"{storage.prefix}/{location}", Body=data)

    def inspect(self, storage: S3Storage, location: str) -> bytes | None:
        try:
            found = self.s3.get_object(Bucket=storage.bucket, Key=f"{storage.prefix}/{location}")
        except self.s3.exceptions.NoSuchKey:
            return None
        return found["Body"].read()

    def another(self, storage: S3Storage) -> S3Storage:
        return S3Storage(storage.bucket, storage.prefix)


@pytest.fixture
def bucket(s3_server: Any) -> str:
    return s3_server.bucket


@pytest.mark.parametrize("size", [16 * MIB, 16 * MIB + 1, 24 * MIB, 24 * MIB + 1])
async def test_data_at_the_edges_of_parts_is_kept(bucket: str, size: int) -> None:
    """One request up to 16 MiB, parts of 8 MiB above."""
    storage = S3Storage(bucket, uuid4().hex)
    data = bytes(size - 1) + b"\1"

    location = await storage.create(data)

    is_same = await storage.read(location) == data
    assert is_same


@pytest.mark.parametrize("size", [3, 20 * MIB])
async def test_the_digest_is_kept_with_the_object(bucket: str, s3: Any, size: int) -> None:
    """The metadata has it, so that a repeated create can be told from another one."""
    storage = S3Storage(bucket, "digests")

    location = await storage.create(bytes(size))

    head = s3.head_object(Bucket=bucket, Key=f"digests/{location}", ChecksumMode="ENABLED")
    assert len(head["Metadata"]["sha256"]) == 64
    assert head["ChecksumSHA256"]


@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        ("", "s3://lake"),
        ("/", "s3://lake"),
        ("models", "s3://lake/models"),
        ("/models/", "s3://lake/models"),
        ("team/models/", "s3://lake/team/models"),
    ],
)
def test_the_name_is_the_bucket_and_the_prefix(prefix: str, name: str) -> None:
    """It is the same in every process, however the prefix is written."""
    assert S3Storage("lake", prefix).name == name
    assert S3Storage("lake", prefix, name="mine").name == "mine"


async def test_an_empty_prefix_puts_locations_at_the_top(bucket: str, s3: Any) -> None:
    """No key begins with a slash."""
    location = await S3Storage(bucket).create(b"data")

    assert s3.get_object(Bucket=bucket, Key=location)["Body"].read() == b"data"


def test_a_uri_opens_a_storage(bucket: str) -> None:
    """The entry point `s3` is found by its scheme."""
    storage = open_storage(f"s3://{bucket}/models/")

    assert isinstance(storage, S3Storage)
    assert storage.name == f"s3://{bucket}/models"
    assert asyncio.run(storage.exists(new_location())) is False


@pytest.mark.parametrize(
    "uri",
    [
        "s3://",
        "s3:///models",
        "s3://AKIA123:hunter2@lake/models",
        "s3://lake/models?secret=hunter2",
        "s3://lake/models#hunter2",
    ],
)
def test_a_uri_with_more_than_a_bucket_and_a_prefix_is_refused(uri: str) -> None:
    """Secrets would end in rows; they are not even repeated in the message."""
    with pytest.raises(StorageError) as caught:
        open_storage(uri)

    assert "hunter2" not in str(caught.value)
    assert "AWS" in str(caught.value)


@pytest.mark.parametrize("wrap", [dict, lambda **options: {"client_options": options}])
def test_secrets_in_an_endpoint_are_refused(wrap: Any) -> None:
    """They would end in messages."""
    with pytest.raises(StorageError, match="endpoint_url") as caught:
        S3Storage("lake", **wrap(endpoint_url="https://me:hunter2@storage.example"))

    assert "hunter2" not in str(caught.value)


async def test_secrets_in_the_endpoint_of_the_settings_are_not_repeated(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings are not ours to refuse."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://me:hunter2@127.0.0.1:1")

    with pytest.raises(StorageError, match=r"http://127\.0\.0\.1:1 ") as caught:
        await S3Storage(bucket).create(b"data")

    assert "hunter2" not in str(caught.value)


async def test_a_session_and_options_are_used(
    s3_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is given goes before what the environment says."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another")
    keys = {
        "aws_access_key_id": s3_server.access_key,
        "aws_secret_access_key": s3_server.secret_key,
    }
    by_session = S3Storage(s3_server.bucket, "given", session=aioboto3.Session(**keys))
    config = AioConfig(read_timeout=7, connector_args={"keepalive_timeout": 1})
    by_options = S3Storage(s3_server.bucket, "given", client_options={**keys, "config": config})

    location = await by_session.create(b"data")

    assert await by_options.read(location) == b"data"
    client = (await by_options._bucket.get())._client
    assert client.meta.config.read_timeout == 7
    assert client.meta.config.connect_timeout == 5
    assert client.meta.config.connector_args == {"keepalive_timeout": 1}


async def test_a_storage_goes_to_another_process(bucket: str) -> None:
    """A class that is pickled by value may hold one; clients stay behind."""
    storage = S3Storage(bucket, "pickled")
    location = await storage.create(b"data")

    copy = pickle.loads(pickle.dumps(storage))

    assert copy.name == storage.name
    assert await copy.read(location) == b"data"


async def test_a_closed_storage_opens_again(bucket: str) -> None:
    """With the credentials of that moment."""
    storage = S3Storage(bucket, "closed")
    location = await storage.create(b"data")

    await storage.close()
    await storage.close()

    assert await storage.read(location) == b"data"


def test_nothing_is_left_open(bucket: str) -> None:
    """Loops that come and go, in turn and in threads, leave no client behind."""
    program = f"""
import asyncio, gc, threading
from artigraph_aws import S3Storage

storage = S3Storage({bucket!r}, "loops")

async def live():
    location = await storage.create(bytes(20 * 2**20))
    await storage.read(location)
    await asyncio.gather(*(storage.exists(location) for _ in range(20)))

for _ in range(2):
    asyncio.run(live())
threads = [threading.Thread(target=asyncio.run, args=(live(),)) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
gc.collect()
print("done")
"""

    result = subprocess.run(
        [sys.executable, "-W", "always", "-c", program],
        capture_output=True,
        text=True,
        check=True,
    )

    assert (result.stdout, result.stderr) == ("done\n", "")


def test_making_a_storage_imports_nothing_of_aws() -> None:
    """What is made and never used costs nothing, through the door as well."""
    program = """
import sys
from artigraph.storage.aws import S3Storage
S3Storage("lake").register()
print(sorted({"aioboto3", "aiobotocore", "boto3", "botocore", "aiohttp"} & set(sys.modules)))
"""

    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout

    assert printed == "[]\n"


OPERATIONS = {
    "create": lambda storage: storage.create(b"data"),
    "create in parts": lambda storage: storage.create(bytes(20 * MIB)),
    "read": lambda storage: storage.read(new_location()),
    "update": lambda storage: storage.update(new_location(), b"data"),
    "delete": lambda storage: storage.delete(new_location()),
    "exists": lambda storage: storage.exists(new_location()),
}
each_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


@each_operation
async def test_a_missing_bucket_is_named(operation: Any) -> None:
    """Whatever is done first; a bucket is never made."""
    with pytest.raises(StorageError, match=r"s3://no-such-lake.*no such bucket.*Create it"):
        await operation(S3Storage("no-such-lake"))


@each_operation
async def test_a_wrong_secret_is_told(
    bucket: str, operation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In words that don't repeat it."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")

    with pytest.raises(StorageError, match=r"permission|secret key") as caught:
        await operation(S3Storage(bucket))

    assert "hunter2" not in str(caught.value)


async def test_an_unknown_access_key_is_told(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In words that don't repeat it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAHUNTER2")

    with pytest.raises(StorageError, match="access key") as caught:
        await S3Storage(bucket).create(b"data")

    assert "AKIAHUNTER2" not in str(caught.value)


async def test_missing_credentials_are_told_and_may_come_later(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next call looks for them again: a notebook is not restarted."""
    storage = S3Storage(bucket, "later")
    with monkeypatch.context() as without:
        without.delenv("AWS_ACCESS_KEY_ID")
        with pytest.raises(StorageError, match=r"no credentials.*AWS_ACCESS_KEY_ID.*aws configure"):
            await storage.create(b"data")

    location = await storage.create(b"data")

    assert await storage.exists(location)


async def test_a_missing_profile_is_told(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name."""
    monkeypatch.setenv("AWS_PROFILE", "nobody")

    with pytest.raises(StorageError, match="nobody"):
        await S3Storage(bucket).create(b"data")


async def test_an_endpoint_that_does_not_answer_is_named() -> None:
    """With what to check."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    storage = S3Storage("lake", endpoint_url=f"http://127.0.0.1:{port}")

    with pytest.raises(StorageError, match=rf"127.0.0.1:{port} can't be reached.*network"):
        await storage.create(b"data")


async def test_an_endpoint_without_tls_is_told(bucket: str, s3_server: Any) -> None:
    """A slip of one letter."""
    url = s3_server.endpoint_url.replace("http:", "https:")

    with pytest.raises(StorageError, match=r"no TLS.*https://"):
        await S3Storage(bucket, endpoint_url=url).create(b"data")


async def test_public_data_needs_no_credentials(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests can be sent unsigned; this server refuses them."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    config = AioConfig(signature_version=UNSIGNED)

    with pytest.raises(StorageError, match="no permission"):
        await S3Storage(bucket, client_options={"config": config}).read(new_location())


@pytest.mark.parametrize("url", ["nowhere", "http://", "s3://lake"])
async def test_an_endpoint_that_is_no_url_is_told(url: str) -> None:
    """When it is used, as everything that the settings say."""
    with pytest.raises(StorageError, match="lake"):
        await S3Storage("lake", endpoint_url=url).create(b"data")


async def test_what_has_no_remedy_of_its_own_is_passed_on() -> None:
    """In the words of the server."""
    with pytest.raises(StorageError, match=r"s3://a.*InvalidBucketName: The specified bucket"):
        await S3Storage("a").create(b"data")


MEASURED = """
import asyncio, sys
from pathlib import Path
from artigraph_aws import S3Storage

storage, size = S3Storage(*sys.argv[1:3]), 256 * 2**20

def memory(name):
    status = Path("/proc/self/status").read_text()
    return int(status.partition(name)[2].split()[0]) * 1024

def write(file):
    piece = bytes(3 * 2**20)
    for start in range(0, size, len(piece)):
        file.write(piece[:size - start])

async def main():
    location = await storage.create_from(write)
    data = bytearray(b"1") * size if sys.argv[3] == "create" else b""
    calls = {
        "create": lambda: storage.create(data),
        "create_from": lambda: storage.create_from(write),
        "read": lambda: storage.read(location),
        "fetch": lambda: storage.fetch(location, Path.cwd()),
    }
    Path("/proc/self/clear_refs").write_text("5")  # what was the most until now is forgotten
    before = memory("VmRSS:")
    result = await calls[sys.argv[3]]()
    return memory("VmHWM:") - before - size * (sys.argv[3] == "read")

print(asyncio.run(main()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how much memory was used")
@pytest.mark.parametrize("call", ["create", "create_from", "read", "fetch"])
def test_large_data_is_not_in_memory_twice(bucket: str, tmp_path: Path, call: str) -> None:
    """256 MiB are moved with less than 128 more than what is given or returned."""
    more = subprocess.run(
        [sys.executable, "-c", MEASURED, bucket, uuid4().hex, call],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert int(more) < 128 * MIB
