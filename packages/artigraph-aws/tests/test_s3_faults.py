"""What S3 storages do when things fail: a real server, behind a proxy that loses and lies."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from aiobotocore.config import AioConfig

from artigraph.errors import BlobMissingError, StorageError
from artigraph.spec import new_location
from artigraph_aws import S3Storage

pytestmark = pytest.mark.s3

LARGE = bytes(range(256)) * 2**17  # 32 MiB: four parts


@dataclass(frozen=True)
class Request:
    """A request to S3 as it came in, and its name in the API."""

    head: bytes
    body: bytes

    @property
    def operation(self) -> str:
        method, target, _ = self.head.split(b"\r\n", 1)[0].decode().split(" ")
        query = parse_qs(urlsplit(target).query, keep_blank_values=True)
        if "uploads" in query:
            return "ListMultipartUploads" if method == "GET" else "CreateMultipartUpload"
        if "uploadId" in query:
            names = {"PUT": "UploadPart", "POST": "CompleteMultipartUpload"}
            return names.get(method, "AbortMultipartUpload")
        return f"{method.title()}Object"

    def header(self, name: str) -> str | None:
        found = re.search(rf"(?im)^{name}: *(.*?)\r$", self.head.decode())
        return found and found[1]


Fault = Callable[["Proxy", Request, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Proxy:
    """Passes requests on, except for the next ones of an operation that a test has plans for."""

    host: str
    port: int
    plans: dict[str, list[Fault]] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    held: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    serving: set[asyncio.Task[Any]] = field(default_factory=set)
    url: str = ""

    def plan(self, operation: str, *faults: Fault) -> None:
        self.plans[operation] = list(faults)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and close."""
        self.serving.add(asyncio.current_task())
        try:
            request = await receive(reader, writer)
            self.seen.append(request.operation)
            faults = self.plans.get(request.operation)
            await (faults.pop(0) if faults else pass_on)(self, request, writer)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client went away
        finally:
            writer.close()

    async def answer(self, request: Request) -> bytes:
        """What the server says."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        head = re.sub(rb"(?im)^(expect|connection):.*\r\n", b"", request.head)
        writer.write(head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + request.body)
        try:
            return await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()


async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request:
    head = await reader.readuntil(b"\r\n\r\n")
    request = Request(head, b"")
    if request.header("expect"):
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    return Request(head, await reader.readexactly(int(request.header("content-length") or 0)))


async def pass_on(proxy: Proxy, request: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(await proxy.answer(request))


def say(status: int, body: str) -> Fault:
    """Answer, and do nothing."""

    async def fault(_proxy: Proxy, _request: Request, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 {status} -\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write((head + body).encode())

    return fault


def refuse(status: int, code: str, message: str = "") -> Fault:
    return say(status, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>")


def refuse_conditions(operation: str) -> Fault:
    """Answer as servers do that don't know conditional writes."""

    async def fault(proxy: Proxy, request: Request, writer: asyncio.StreamWriter) -> None:
        proxy.plan(operation, fault)
        refusal = refuse(501, "NotImplemented") if request.header("if-none-match") else pass_on
        await refusal(proxy, request, writer)

    return fault


async def lose_answer(proxy: Proxy, request: Request, _writer: asyncio.StreamWriter) -> None:
    """Do what is asked, and never say so."""
    await proxy.answer(request)


async def cut_body(proxy: Proxy, request: Request, writer: asyncio.StreamWriter) -> None:
    """Send the head, and half of the body."""
    head, _, body = (await proxy.answer(request)).partition(b"\r\n\r\n")
    writer.write(head + b"\r\n\r\n" + body[: len(body) // 2])


async def hold(proxy: Proxy, request: Request, writer: asyncio.StreamWriter) -> None:
    """Tell the test, and wait for its word."""
    proxy.held.set()
    await proxy.released.wait()
    await pass_on(proxy, request, writer)


@pytest.fixture
async def proxy(s3_server: Any) -> AsyncIterator[Proxy]:
    url = urlsplit(s3_server.endpoint_url)
    proxy = Proxy(url.hostname, url.port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, limit=2**20)
    proxy.url = "http://{}:{}".format(*server.sockets[0].getsockname())
    async with server:
        yield proxy
        proxy.released.set()
        await asyncio.gather(*proxy.serving)


@pytest.fixture
def storage(proxy: Proxy, s3_server: Any) -> S3Storage:
    return S3Storage(s3_server.bucket, uuid4().hex, endpoint_url=proxy.url)


@pytest.fixture
def hasty(proxy: Proxy, s3_server: Any) -> S3Storage:
    """A storage that tries everything once."""
    config = AioConfig(retries={"total_max_attempts": 1})
    return S3Storage(s3_server.bucket, endpoint_url=proxy.url, client_options={"config": config})


@pytest.fixture
def found(storage: S3Storage, s3: Any) -> Callable[[str], bytes | None]:
    """What is really at a location."""

    def find(location: str) -> bytes | None:
        try:
            answer = s3.get_object(Bucket=storage.bucket, Key=f"{storage.prefix}/{location}")
        except s3.exceptions.NoSuchKey:
            return None
        return answer["Body"].read()

    return find


@pytest.fixture
def unfinished(storage: S3Storage, s3: Any) -> Callable[[], list[str]]:
    """The uploads that were begun and neither completed nor aborted."""

    def find() -> list[str]:
        answer = s3.list_multipart_uploads(Bucket=storage.bucket, Prefix=storage.prefix)
        return [upload["Key"] for upload in answer.get("Uploads", [])]

    return find


async def test_a_body_that_breaks_off_is_read_again(storage: S3Storage, proxy: Proxy) -> None:
    """F10: the client itself repeats requests, not bodies."""
    location = await storage.create(LARGE)
    proxy.plan("GetObject", cut_body, cut_body)

    is_same = await storage.read(location) == LARGE

    assert is_same
    assert proxy.seen.count("GetObject") == 4 + 2


async def test_a_body_that_always_breaks_off_is_an_error(storage: S3Storage, proxy: Proxy) -> None:
    """F10: a part is never taken for the whole."""
    location = await storage.create(b"data")
    proxy.plan("GetObject", *[cut_body] * 3)

    with pytest.raises(StorageError, match=r"broke off.*Try again"):
        await storage.read(location)

    assert proxy.seen.count("GetObject") == 3


async def test_a_server_that_fails_three_times_is_asked_again(
    storage: S3Storage, proxy: Proxy, found: Any
) -> None:
    """F10: it takes four failures to fail."""
    proxy.plan("PutObject", *[refuse(500, "InternalError")] * 3)

    location = await storage.create(b"data")

    assert found(location) == b"data"


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (500, "InternalError", "failed again and again.*Try again"),
        (503, "SlowDown", "overloaded.*Try again"),
        (400, "ExpiredToken", r"expired.*aws sso login.*storage\.close"),
        (403, "AccessDenied", "permission.*s3:PutObject"),
        (403, "RequestTimeTooSkewed", "clock"),
        (400, "AuthorizationHeaderMalformed", "another region.*region_name"),
        (400, "BadDigest", "altered"),
        (404, "NoSuchBucket", "bucket"),
        (409, "OperationAborted", "written by something else"),
    ],
)
async def test_a_refusal_says_what_to_do(
    hasty: S3Storage, proxy: Proxy, status: int, code: str, words: str
) -> None:
    """F10: in our words, since a server's might hold a key."""
    proxy.plan("PutObject", *[refuse(status, code, "by order of AKIAHUNTER2")] * 3)

    with pytest.raises(StorageError, match=f"{re.escape(hasty.name)}.*{words}") as caught:
        await hasty.create(b"data")

    assert "AKIAHUNTER2" not in str(caught.value)


async def test_a_server_that_falls_silent_is_an_error(proxy: Proxy, s3_server: Any) -> None:
    """F10: after the time that is set, as often as is set."""
    config = AioConfig(read_timeout=0.1, retries={"total_max_attempts": 2})
    storage = S3Storage(s3_server.bucket, endpoint_url=proxy.url, client_options={"config": config})
    proxy.plan("PutObject", hold, hold)

    with pytest.raises(StorageError, match="fell silent"):
        await storage.create(b"data")

    assert proxy.seen == ["PutObject", "PutObject"]


@pytest.mark.parametrize("body", ["", "<p>Log in<br>"])
@pytest.mark.parametrize(
    ("operation", "size"),
    [
        ("PutObject", 3),
        ("CreateMultipartUpload", 2**25),
        ("UploadPart", 2**25),
        ("CompleteMultipartUpload", 2**25),
    ],
)
async def test_a_page_that_says_200_is_no_success(
    hasty: S3Storage, proxy: Proxy, operation: str, size: int, body: str
) -> None:
    """F10: such as the log-in page of some network: nothing was kept."""
    proxy.plan(operation, say(200, body))

    with pytest.raises(StorageError, match=r"not those of S3|failed again"):
        await hasty.create(bytes(size))


async def test_a_page_is_no_object(storage: S3Storage, proxy: Proxy) -> None:
    """F10: where an object is looked for."""
    proxy.plan("HeadObject", say(200, ""))

    with pytest.raises(StorageError, match="not those of S3"):
        await storage.exists(new_location())


@pytest.mark.parametrize("code", ["NoSuchKey", "NotFound", "404"])
async def test_missing_data_has_three_names(storage: S3Storage, proxy: Proxy, code: str) -> None:
    """F10: servers differ in how they say it."""
    proxy.plan("GetObject", refuse(404, code))

    with pytest.raises(BlobMissingError):
        await storage.read(new_location())


async def test_a_write_whose_answer_was_lost_is_found(
    storage: S3Storage, proxy: Proxy, found: Any
) -> None:
    """F10: the second try meets the data of the first."""
    proxy.plan("PutObject", lose_answer)

    location = await storage.create(b"data")

    assert found(location) == b"data"
    assert proxy.seen == ["PutObject", "PutObject", "HeadObject"]


async def test_a_conflict_with_nothing_there_is_tried_again(
    storage: S3Storage, proxy: Proxy, found: Any
) -> None:
    """F10: the other write may have failed."""
    proxy.plan("PutObject", refuse(409, "ConditionalRequestConflict"))

    location = await storage.create(b"data")

    assert found(location) == b"data"


@pytest.mark.parametrize(
    ("operation", "data"), [("PutObject", b"data"), ("CompleteMultipartUpload", LARGE)]
)
async def test_a_server_without_conditions_is_written_to(
    storage: S3Storage, proxy: Proxy, found: Any, unfinished: Any, operation: str, data: bytes
) -> None:
    """What is there is looked for instead, so that still nothing is replaced."""
    proxy.plan(operation, refuse_conditions(operation))

    location = await storage.create(data)
    await storage.create(data, location=location)
    with pytest.raises(StorageError, match="other data"):
        await storage.create(data[::-1], location=location)

    is_same = found(location) == data
    assert is_same
    assert unfinished() == []


@pytest.mark.parametrize("operation", ["UploadPart", "CompleteMultipartUpload"])
async def test_an_upload_that_fails_is_aborted(
    storage: S3Storage, proxy: Proxy, found: Any, unfinished: Any, operation: str
) -> None:
    """F11: at a part or at the end: nothing is left that costs money unseen."""
    location = new_location()
    proxy.plan(operation, refuse(403, "AccessDenied"))

    with pytest.raises(StorageError, match="permission"):
        await storage.create(LARGE, location=location)

    assert "AbortMultipartUpload" in proxy.seen
    assert unfinished() == []
    assert found(location) is None


async def test_an_upload_that_meets_other_data_is_aborted(
    storage: S3Storage, proxy: Proxy, found: Any, unfinished: Any
) -> None:
    """F11: whoever is first at a location keeps it."""
    location = await storage.create(b"data")

    with pytest.raises(StorageError, match="other data"):
        await storage.create(LARGE, location=location)

    assert unfinished() == []
    assert found(location) == b"data"


@pytest.mark.parametrize("operation", ["UploadPart", "CompleteMultipartUpload"])
async def test_an_upload_whose_answer_was_lost_is_completed(
    storage: S3Storage, proxy: Proxy, found: Any, unfinished: Any, operation: str
) -> None:
    """F11: parts are sent again; a completion is looked for."""
    proxy.plan(operation, lose_answer)

    location = await storage.create(LARGE)

    is_same = found(location) == LARGE
    assert is_same
    assert unfinished() == []


async def test_an_abort_that_fails_does_not_hide_the_reason(
    storage: S3Storage, proxy: Proxy, unfinished: Any
) -> None:
    """F11: the upload that is left is named in a note."""
    proxy.plan("UploadPart", refuse(403, "AccessDenied"))
    proxy.plan("AbortMultipartUpload", refuse(403, "AccessDenied"))

    with pytest.raises(StorageError, match="permission") as caught:
        await storage.create(LARGE)

    assert len(unfinished()) == 1
    assert "could not be aborted" in "".join(caught.value.__cause__.__notes__)


@pytest.mark.parametrize(
    "refusal",
    [
        refuse(501, "NotImplemented"),
        refuse(405, "MethodNotAllowed"),
        say(501, ""),
        say(405, "<p>no"),
    ],
    ids=["NotImplemented", "MethodNotAllowed", "501", "405"],
)
async def test_a_server_that_lists_no_uploads_deletes_what_is_discarded(
    storage: S3Storage, proxy: Proxy, found: Any, refusal: Fault
) -> None:
    """It can't be asked what was begun; a bucket's own rule has to remove that."""
    location = await storage.create(b"data")
    proxy.plan("ListMultipartUploads", *[refusal] * 4)

    await storage.discard(location)

    assert found(location) is None
    assert proxy.seen[-2:] == ["ListMultipartUploads", "DeleteObject"]


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        ("ListMultipartUploads", "AccessDenied"),
        ("ListMultipartUploads", "NoSuchBucket"),
        ("AbortMultipartUpload", "NotImplemented"),
    ],
)
async def test_uploads_that_may_be_there_are_no_success(
    storage: S3Storage, proxy: Proxy, s3: Any, found: Any, operation: str, code: str
) -> None:
    """Whoever may not ask, or can't abort, is told; the object stays for the next time."""
    location = await storage.create(b"data")
    s3.create_multipart_upload(Bucket=storage.bucket, Key=f"{storage.prefix}/{location}")
    proxy.plan(operation, *[refuse(403, code)] * 4)

    with pytest.raises(StorageError, match="can't discard"):
        await storage.discard(location)

    assert found(location) == b"data"


@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart"])
async def test_an_upload_that_is_cancelled_is_aborted(
    storage: S3Storage, proxy: Proxy, found: Any, unfinished: Any, operation: str
) -> None:
    """F12: also while the server is still opening it, and its name is not known."""
    location = new_location()
    proxy.plan(operation, *[hold] * 4)
    creating = asyncio.ensure_future(storage.create(LARGE, location=location))
    await proxy.held.wait()

    creating.cancel()
    proxy.released.set()
    await asyncio.wait({creating})

    assert creating.cancelled()
    assert "AbortMultipartUpload" in proxy.seen
    assert unfinished() == []
    assert found(location) is None


async def test_an_upload_that_is_cancelled_at_its_end_is_whole(
    storage: S3Storage, proxy: Proxy, found: Any, unfinished: Any
) -> None:
    """F12: the last request is waited for, as a commit is; then the cancellation goes on."""
    location = new_location()
    proxy.plan("CompleteMultipartUpload", hold)
    creating = asyncio.ensure_future(storage.create(LARGE, location=location))
    await proxy.held.wait()

    creating.cancel()
    proxy.released.set()
    await asyncio.wait({creating})

    is_same = found(location) == LARGE
    assert is_same
    assert creating.cancelled()
    assert unfinished() == []


async def test_a_put_that_is_cancelled_is_whole_or_absent(
    storage: S3Storage, proxy: Proxy, found: Any
) -> None:
    """F12: a request that is on its way may still arrive, and can be made again."""
    location = new_location()
    proxy.plan("PutObject", hold)
    creating = asyncio.ensure_future(storage.create(b"data", location=location))
    await proxy.held.wait()

    creating.cancel()
    proxy.released.set()
    await asyncio.wait({creating})

    assert creating.cancelled()
    assert found(location) in (None, b"data")
    await storage.create(b"data", location=location)
    assert found(location) == b"data"
