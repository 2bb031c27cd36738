"""What S3 and its client refuse, in words that say what to do."""

import re
from collections.abc import Mapping
from typing import Any

import aiohttp
from aiobotocore.response import AioReadTimeoutError
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

MISSING = frozenset({"NoSuchKey", "NotFound", "404"})
"""The codes of a missing object: GET's, some other servers', HEAD's."""

NO_SUCH_RANGE = frozenset({"InvalidRange", "416"})
"""The codes of an object that ends before a range begins, as an empty one does before all."""

REPLACED = frozenset({"PreconditionFailed", "412", *NO_SUCH_RANGE})
"""The codes of an object that is not the one of which there was a part."""

TAKEN = frozenset(
    {
        "PreconditionFailed",
        "412",
        # Another request writes this very object; it may be an earlier try of the client's own.
        "ConditionalRequestConflict",
        "OperationAborted",
        "409",
        # The same, of an upload that an earlier try completed.
        "NoSuchUpload",
    }
)
"""The codes of a key that is not free, or no longer."""

BROKEN_OFF = (
    aiohttp.ClientPayloadError,
    AioReadTimeoutError,
    boto.IncompleteReadError,
    boto.ResponseStreamingError,
)
"""What a body raises that ends too early."""

REFUSALS = (
    boto.BotoCoreError,
    boto.ClientError,
    ResponseParserError,
    aiohttp.ClientError,
    OSError,
    ValueError,
)
"""Everything that is not a mistake of ours."""


def code_of(error: boto.ClientError) -> str:
    """The code of the server's answer, or its HTTP status where it has no text."""
    return str(error.response.get("Error", {}).get("Code", ""))


def given(answer: Mapping[str, Any], name: str) -> Any:
    """What every answer of S3 has, and the page of some proxy on the way has not."""
    if name not in answer:
        raise ResponseParserError(f"an answer without {name}")
    return answer[name]


def explain(error: Exception, endpoint: str) -> tuple[str, str]:
    """The reason and the remedy. No message of a server is repeated that may hold a key."""
    if isinstance(error, boto.ClientError):
        return _of_code(error)
    for kinds, reason, remedy in _KINDS:
        if isinstance(error, kinds):
            return reason.format(endpoint=re.sub("//.*@", "//", endpoint)), remedy
    return f"{type(error).__name__}: {_one_line(error)}", ""


def _of_code(error: boto.ClientError) -> tuple[str, str]:
    code = code_of(error)
    for codes, reason, remedy in _CODES:
        if code in codes:
            return reason, remedy
    message = error.response.get("Error", {}).get("Message", "no reason given")
    return f"the server answered {code}: {_one_line(message)}", ""


def _one_line(text: object) -> str:
    return " ".join(str(text).split()).rstrip(".")


_ENDPOINT = "Check the network, and the endpoint: endpoint_url=..., or AWS_ENDPOINT_URL_S3."
_KEYS = "Check the keys, and that they belong to this endpoint."
_REGION = "Pass the bucket's region: region_name=..., or AWS_REGION."
_AGAIN = "Try again later."

_CODES = (
    (
        {"NoSuchBucket"},
        "there is no such bucket",
        "Create it, or check its name and the endpoint.",
    ),
    (
        {"AccessDenied", "Forbidden", "403", "AllAccessDisabled"},
        "the credentials have no permission for this",
        "They need s3:GetObject, s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload on the"
        " objects, and s3:ListBucket and s3:ListBucketMultipartUploads on the bucket.",
    ),
    ({"InvalidAccessKeyId"}, "the server does not know the access key", _KEYS),
    ({"SignatureDoesNotMatch"}, "the secret key is not that of the access key", _KEYS),
    (
        {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken"},
        "the credentials have expired",
        "Renew them, as with 'aws sso login'; after 'await storage.close()' they are read again.",
    ),
    (
        {"RequestTimeTooSkewed", "RequestExpired"},
        "the clock of this machine is wrong",
        "Set it: a request is valid for some minutes only.",
    ),
    (
        {"PermanentRedirect", "301", "AuthorizationHeaderMalformed", "IncorrectEndpoint"},
        "the bucket is in another region",
        _REGION,
    ),
    (
        {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch"},
        "the data was altered on its way",
        "Nothing was kept; try again.",
    ),
    ({"SlowDown", "ServiceUnavailable", "Throttling", "503"}, "the server is overloaded", _AGAIN),
    ({"InternalError", "500", "502", "504"}, "the server failed again and again", _AGAIN),
)

_KINDS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str, str], ...] = (
    (
        boto.NoCredentialsError,
        "no credentials were found",
        "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run 'aws configure'.",
    ),
    (
        (
            boto.PartialCredentialsError,
            boto.CredentialRetrievalError,
            boto.TokenRetrievalError,
            boto.SSOError,
            boto.MetadataRetrievalError,
            boto.RefreshWithMFAUnsupportedError,
        ),
        "the credentials can't be read",
        "Complete or renew them, as with 'aws configure' or 'aws sso login'.",
    ),
    (
        boto.SSLError,
        "there is no TLS connection to {endpoint}",
        "Check that it is https:// there too, and AWS_CA_BUNDLE for a certificate of your own.",
    ),
    (boto.ProxyConnectionError, "the proxy on the way can't be reached", "Check HTTPS_PROXY."),
    (
        (boto.EndpointConnectionError, boto.ConnectTimeoutError),
        "{endpoint} can't be reached",
        _ENDPOINT,
    ),
    (
        (boto.HTTPClientError, boto.IncompleteReadError, aiohttp.ClientError, OSError),
        "the connection to {endpoint} broke off or fell silent",
        "Try again: what was begun is not visible, or complete.",
    ),
    (ResponseParserError, "{endpoint} gives answers that are not those of S3", _ENDPOINT),
)
