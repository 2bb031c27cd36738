"""What Artigraph finds: the storage that an `s3://` URI names."""

from artigraph.errors import StorageError
from artigraph.spec import Storage
from artigraph_aws.storage import S3Storage


def artigraph_open_storage(uri: str) -> Storage | None:
    """The storage `s3://bucket/prefix`, with the endpoint and credentials of the AWS settings.

    Raises:
        StorageError: There is more in the URI than a bucket and a prefix.
    """
    if not uri.startswith("s3://"):
        return None
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    if "?" in uri or "#" in uri:
        raise StorageError(
            "s3:",
            "be opened",
            "its URI has more than a bucket and a prefix",
            "Set AWS_ENDPOINT_URL_S3, AWS_REGION and AWS_PROFILE, or register an S3Storage(...).",
        )
    return S3Storage(bucket, prefix)
