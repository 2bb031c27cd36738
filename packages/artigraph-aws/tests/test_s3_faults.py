"""What S3 storages do when things fail: a real server, behind a proxy that loses and lies."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from aiobotocore.config import AioConfig

from artigraph.errors import BlobMissingError, StorageError
from artigraph.spec import new_location
from artigraph_aws import S3Storage
from artigraph_aws.stream import part_size

pytestmark = pytest.mark.s3

MIB = 2**20
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


def give(data: bytes) -> Fault:
    """Answer with a whole object, as servers do that don't know ranges."""
    head = f"HTTP/1.1 200 OK\r\nETag: 1\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"

    async def fault(_proxy: Proxy, _request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(head.encode() + data)

    return fault


def alter(old: bytes, new: bytes) -> Fault:
    """Change the head of the answer."""

    async def fault(proxy: Proxy, request: Request, writer: asyncio.StreamWriter) -> None:
        head, _, body = (await proxy.answer(request)).partition(b"\r\n\r\n")
        writer.write(re.sub(old, new, head) + b"\r\n\r\n" + body)

    return fault


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


# Data that is written while it is sent


def write_large(file: BinaryIO) -> None:
    file.writelines(LARGE[start : start + 3 * MIB] for start in range(0, len(LARGE), 3 * MIB))


class Endless:
    """Writes until the file refuses, and remembers why it did."""

    def __init__(self) -> None:
        self.is_begun = threading.Event()
        self.refusal: BaseException | None = None

    def __call__(self, file: BinaryIO) -> None:
        try:
            while True:
                file.write(bytes(MIB))
                self.is_begun.set()
        except BaseException as error:
            self.refusal = error
            raise Exception("what some library makes of it") from error


@pytest.mark.parametrize(
    ("operation", "number"),
    [("CreateMultipartUpload", 1), *(("UploadPart", number) for number in (1, 2, 3, 9, 20))],
)
async def test_a_stream_that_is_refused_stops(
    storage: S3Storage, proxy: Proxy, found: Any, unfinished: Any, operation: str, number: int
) -> None:
    """F11: whichever part it is: who writes is told, and nothing is left."""
    location, write = new_location(), Endless()
    proxy.plan(operation, *[pass_on] * (number - 1), refuse(403, "AccessDenied"))

    with pytest.raises(StorageError, match="permission") as caught:
        await storage.create_from(write, location=location)

    assert write.refusal is caught.value
    assert unfinished() == []
    assert found(location) is None


async def test_a_stream_that_is_refused_at_the_end_is_aborted(
    storage: S3Storage, proxy: Proxy, found: Any, unfinished: Any
) -> None:
    """F11: all parts are there, and their number is not."""
    location = new_location()
    proxy.plan("CompleteMultipartUpload", refuse(403, "AccessDenied"))

    with pytest.raises(StorageError, match="permission"):
        await storage.create_from(write_large, location=location)

    assert unfinished() == []
    assert found(location) is None


async def test_a_stream_whose_writer_fails_is_aborted(
    storage: S3Storage, proxy: Proxy, found: Any, unfinished: Any
) -> None:
    """F11: when some parts are there already."""
    location, is_sent = new_location(), threading.Event()

    async def tell(proxy: Proxy, request: Request, writer: asyncio.StreamWriter) -> None:
        await pass_on(proxy, request, writer)
        is_sent.set()

    def write(file: BinaryIO) -> None:
        write_large(file)
        is_sent.wait()
        raise LookupError("mine")

    proxy.plan("UploadPart", tell)
    with pytest.raises(LookupError, match="mine"):
        await storage.create_from(write, location=location)

    assert "UploadPart" in proxy.seen
    assert unfinished() == []
    assert found(location) is None


@pytest.mark.parametrize("code", [(409, "ConditionalRequestConflict"), (409, "OperationAborted")])
async def test_a_stream_that_meets_nobody_is_completed_again(
    storage: S3Storage, proxy: Proxy, found: Any, unfinished: Any, code: tuple[int, str]
) -> None:
    """F10: the other write may have failed; its parts are still there."""
    proxy.plan("CompleteMultipartUpload", refuse(*code))

    location = await storage.create_from(write_large)

    is_same = found(location) == LARGE
    assert is_same
    assert unfinished() == []


async def test_a_stream_whose_upload_is_gone_is_an_error(
    storage: S3Storage, proxy: Proxy, found: Any, unfinished: Any
) -> None:
    """F11: as where a rule of the bucket, or a collection, has aborted it."""
    location = new_location()
    proxy.plan("CompleteMultipartUpload", *[refuse(404, "NoSuchUpload")] * 3)

    with pytest.raises(StorageError, match="something else"):
        await storage.create_from(write_large, location=location)

    assert unfinished() == []
    assert found(location) is None


@pytest.mark.parametrize(
    ("operation", "size"),
    [("PutObject", 3), ("UploadPart", 2**25), ("CompleteMultipartUpload", 2**25)],
)
async def test_a_stream_whose_answer_was_lost_is_completed(
    storage: S3Storage, proxy: Proxy, found: Any, unfinished: Any, operation: str, size: int
) -> None:
    """F11: what tells that it is there is not its SHA-256, which came too late."""
    proxy.plan(operation, lose_answer)

    location = await storage.create_from(lambda file: file.write(LARGE[:size]))

    is_same = found(location) == LARGE[:size]
    assert is_same
    assert unfinished() == []


@pytest.mark.parametrize("faults", [[], [lose_answer]], ids=["", "answer lost"])
async def test_a_stream_is_not_taken_for_an_equal_one(
    storage: S3Storage, proxy: Proxy, found: Any, unfinished: Any, faults: list[Fault]
) -> None:
    """F11: whoever is first at a location keeps it, also with the same data."""
    location = await storage.create_from(write_large)
    proxy.plan("CompleteMultipartUpload", *faults)

    with pytest.raises(StorageError, match="other data"):
        await storage.create_from(write_large, location=location)

    is_same = found(location) == LARGE
    assert is_same
    assert unfinished() == []


@pytest.mark.parametrize(
    ("operation", "size"), [("PutObject", 3), ("CompleteMultipartUpload", 2**25)]
)
async def test_a_stream_goes_to_a_server_without_conditions(
    storage: S3Storage, proxy: Proxy, found: Any, unfinished: Any, operation: str, size: int
) -> None:
    """What is there is looked for instead, so that still nothing is replaced."""
    proxy.plan(operation, refuse_conditions(operation))
    data = LARGE[:size]

    location = await storage.create_from(lambda file: file.write(data))
    with pytest.raises(StorageError, match="other data"):
        await storage.create_from(lambda file: file.write(data[::-1]), location=location)

    is_same = found(location) == data
    assert is_same
    assert unfinished() == []


@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart"])
async def test_a_stream_that_is_cancelled_is_aborted(
    storage: S3Storage, proxy: Proxy, found: Any, unfinished: Any, operation: str
) -> None:
    """F12: and its writer is told; no thread waits for ever."""
    location, write = new_location(), Endless()
    proxy.plan(operation, *[hold] * 20)
    creating = asyncio.ensure_future(storage.create_from(write, location=location))
    await proxy.held.wait()

    creating.cancel()
    proxy.released.set()
    await asyncio.wait({creating})

    assert creating.cancelled()
    assert isinstance(write.refusal, asyncio.CancelledError)
    assert unfinished() == []
    assert found(location) is None


async def test_a_stream_that_is_cancelled_at_the_end_is_completed(
    storage: S3Storage, proxy: Proxy, found: Any, unfinished: Any
) -> None:
    """F12: the last request is waited for, as a commit is; then the cancellation goes on."""
    location = new_location()
    proxy.plan("CompleteMultipartUpload", hold)
    creating = asyncio.ensure_future(storage.create_from(write_large, location=location))
    await proxy.held.wait()

    creating.cancel()
    proxy.released.set()
    await asyncio.wait({creating})

    is_same = found(location) == LARGE
    assert is_same
    assert creating.cancelled()
    assert unfinished() == []


def test_a_loop_that_ends_aborts_its_streams(s3_server: Any, s3: Any) -> None:
    """F12: as `asyncio.run` does, when its coroutine is through."""
    storage, write = S3Storage(s3_server.bucket, uuid4().hex), Endless()

    async def begin() -> asyncio.Task[str]:
        creating = asyncio.create_task(storage.create_from(write))
        await asyncio.to_thread(write.is_begun.wait)
        return creating

    creating = asyncio.run(begin())

    assert creating.cancelled()
    assert isinstance(write.refusal, asyncio.CancelledError)
    answer = s3.list_multipart_uploads(Bucket=storage.bucket, Prefix=storage.prefix)
    assert answer.get("Uploads", []) == []


async def test_parts_grow_with_the_stream(
    storage: S3Storage, found: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are at most 10,000; here they grow after two already."""
    monkeypatch.setattr("artigraph_aws.stream._GROWS_AFTER", 2)
    data = b"".join(bytes([number]) * MIB for number in range(70))

    location = await storage.create_from(lambda file: file.write(data))

    is_same = found(location) == data
    assert is_same


def test_a_stream_of_the_size_that_s3_takes_fits() -> None:
    """5 TiB in 10,000 parts of at most 5 GiB."""
    sizes = [part_size(number) for number in range(1, 10_001)]

    assert sum(sizes) >= 5 * 2**40
    assert max(sizes) <= 5 * 2**30
    assert sizes[:1000] == [8 * MIB] * 1000


# Ranges


async def fetched(storage: S3Storage, location: str, folder: Path) -> bytes:
    return (await storage.fetch(location, folder)).read_bytes()


async def read(storage: S3Storage, location: str, _folder: Path) -> bytes:
    return bytes(await storage.read(location))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "fetched"
    folder.mkdir()
    return folder


both_ways = pytest.mark.parametrize("receive", [read, fetched])


@both_ways
@pytest.mark.parametrize("number", [1, 2, 4])
async def test_a_range_that_breaks_off_is_asked_for_again(
    storage: S3Storage, proxy: Proxy, folder: Path, receive: Any, number: int
) -> None:
    """F10: and no other."""
    location = await storage.create(LARGE)
    proxy.plan("GetObject", *[pass_on] * (number - 1), cut_body)

    is_same = await receive(storage, location, folder) == LARGE

    assert is_same
    assert proxy.seen.count("GetObject") == 5


@both_ways
async def test_a_range_that_always_breaks_off_is_an_error(
    storage: S3Storage, proxy: Proxy, folder: Path, receive: Any
) -> None:
    """F10: and nothing is left of the others."""
    location = await storage.create(LARGE)
    proxy.plan("GetObject", pass_on, *[cut_body] * 20)

    with pytest.raises(StorageError, match=r"broke off.*Try again"):
        await receive(storage, location, folder)

    assert list(folder.iterdir()) == []


@both_ways
async def test_ranges_are_of_one_object(
    storage: S3Storage, proxy: Proxy, s3: Any, folder: Path, receive: Any
) -> None:
    """What is replaced meanwhile is read again, from the beginning."""
    location = await storage.create(LARGE)
    proxy.plan("GetObject", pass_on, replace(s3, storage, location, LARGE[::-1]))

    is_new = await receive(storage, location, folder) == LARGE[::-1]

    assert is_new


@both_ways
@pytest.mark.parametrize("size", [2**24, 2**25])
async def test_what_is_replaced_again_and_again_is_an_error(
    storage: S3Storage, proxy: Proxy, s3: Any, folder: Path, receive: Any, size: int
) -> None:
    """Nobody gets a mixture."""
    location = await storage.create(LARGE)
    faults = [replace(s3, storage, location, bytes([number]) * size) for number in range(20)]
    proxy.plan("GetObject", pass_on, *faults)

    with pytest.raises(StorageError, match="replaced again and again"):
        await receive(storage, location, folder)

    assert list(folder.iterdir()) == []


@both_ways
async def test_what_is_deleted_meanwhile_is_missing(
    storage: S3Storage, proxy: Proxy, s3: Any, folder: Path, receive: Any
) -> None:
    """As it would be a moment later."""
    location = await storage.create(LARGE)
    proxy.plan("GetObject", pass_on, replace(s3, storage, location, None))

    with pytest.raises(BlobMissingError):
        await receive(storage, location, folder)

    assert list(folder.iterdir()) == []


@both_ways
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (rb'(?i)etag: "', b'ETag: "0', "replaced again"),
        (rb"(?i)content-range: bytes 8", b"Content-Range: bytes 9", "not those of S3"),
        (rb"(?i)content-range: .*/", b"Content-Range: bytes 0-1/", "not those of S3"),
        (rb"(?i)content-range: .*\r\n", b"", "not those of S3"),
    ],
)
async def test_another_range_is_not_taken(
    storage: S3Storage, proxy: Proxy, folder: Path, receive: Any, old: bytes, new: bytes, words: str
) -> None:
    """As some server gives it that does not know what was asked."""
    location = await storage.create(LARGE)
    proxy.plan("GetObject", *[pass_on, *[alter(old, new)] * 3] * 5)

    with pytest.raises(StorageError, match=words):
        await receive(storage, location, folder)

    assert list(folder.iterdir()) == []


@both_ways
@pytest.mark.parametrize("data", [b"", b"data", LARGE], ids=len)
async def test_a_server_without_ranges_gives_all_at_once(
    storage: S3Storage, proxy: Proxy, folder: Path, receive: Any, data: bytes
) -> None:
    """Which is taken, also where it had to be asked for again."""
    proxy.plan("GetObject", give(data), give(data))

    is_same = await receive(storage, new_location(), folder) == data

    assert is_same


@pytest.mark.parametrize("name", ["missing", "file"])
async def test_a_folder_that_is_none_is_told(storage: S3Storage, tmp_path: Path, name: str) -> None:
    """As an error of this machine: the data is not missing, nor is the connection."""
    location = await storage.create(b"data")
    (tmp_path / "file").touch()

    with pytest.raises(StorageError, match=f"write .*{name}"):
        await storage.fetch(location, tmp_path / name)


async def test_what_is_there_is_not_fetched_over(storage: S3Storage, folder: Path) -> None:
    """A file may be in use."""
    location = await storage.create(b"data")
    path = await storage.fetch(location, folder)
    await storage.update(location, b"more")

    with pytest.raises(StorageError, match="exists"):
        await storage.fetch(location, folder)

    assert path.read_bytes() == b"data"


def replace(s3: Any, storage: S3Storage, location: str, data: bytes | None) -> Fault:
    """Put another object in the place of one, or none, before the request comes to the server."""
    target = {"Bucket": storage.bucket, "Key": f"{storage.prefix}/{location}"}

    async def fault(proxy: Proxy, request: Request, writer: asyncio.StreamWriter) -> None:
        if data is None:
            await asyncio.to_thread(s3.delete_object, **target)
        else:
            await asyncio.to_thread(s3.put_object, **target, Body=data)
        await pass_on(proxy, request, writer)

    return fault


async def test_what_is_too_large_stays_where_it_is(
    storage: S3Storage, proxy: Proxy, s3: Any
) -> None:
    """C1: of what has taken the place of data no more is received than tells so."""
    location = await storage.create(b"data")
    s3.put_object(Bucket=storage.bucket, Key=f"{storage.prefix}/{location}", Body=LARGE)

    read = await storage.read_up_to(location, 5)

    assert read == LARGE[:5]
    assert proxy.seen.count("GetObject") == 1
