"""A saved tree: the rows of what is saved at once, and the digest that holds them together."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from artigraph.errors import LabelError, shown
from artigraph.graph import Key, Node, Row
from artigraph.tables import MAX_LABEL_LENGTH
from artigraph.transfer import Transfer

KEYS: Final = "keys"
"""The field of a mapping's document that holds its keys; its values have numbers for names."""


@dataclass(frozen=True)
class Tree:
    """The rows of a value, ready to be written, as it is walked: what is in a node follows it."""

    rows: list[Row]
    transfers: Sequence[Transfer] = ()
    blob_ids: Sequence[UUID] = ()
    """Blobs that are there already, and that the rows name too."""

    @property
    def root_id(self) -> UUID:
        return self.rows[0]["node_id"]

    @property
    def parent_id(self) -> UUID | None:
        return self.rows[0]["node_parent_id"]

    @property
    def label(self) -> str | None:
        return self.rows[0]["artifact_label"]

    @property
    def digest(self) -> str | None:
        """None until it is sealed."""
        return self.rows[0]["artifact_tree_digest"]

    def seal(self) -> None:
        """Put the digest of all rows, which are complete now, into the root's."""
        places: dict[UUID, int] = {}
        digest = hashlib.sha256()
        for row in self.rows:
            facts = (
                places.get(row["node_parent_id"]),
                row["node_type"],
                row["artifact_label"],
                row["artifact_position"],
                row["artifact_serializer"],
                row["artifact_size"],
                row["artifact_sha256"],
                row["model_name"],
                row["model_version"],
            )
            digest.update(_line(facts, row["model_fields"] or ""))
            places[row["node_id"]] = len(places)
        self.rows[0]["artifact_tree_digest"] = digest.hexdigest()

    def take_ids(self, earlier: "Tree") -> None:
        """Give the nodes the ids that equal ones had in an earlier attempt."""
        for row, before in zip(self.rows, earlier.rows, strict=True):
            for column in ("node_id", "node_parent_id", "artifact_tree_id"):
                row[column] = before[column]


def is_root(row: Row) -> bool:
    """Whether a tree begins with this row."""
    return row["node_id"] == row["artifact_tree_id"]


def digest_of(nodes: Iterable[Node]) -> str:
    """The digest of a tree as it was read: equal to what its root holds if nothing was touched.

    It is the SHA-256 of a line for each node, in their order, followed by the node's document. A
    line is the `ascii()` of a tuple: the place of the parent among the nodes, the facts, and the
    length of the document.
    """
    places: dict[Key | None, int] = {}
    digest = hashlib.sha256()
    for node in nodes:
        facts = (
            places.get(node.parent_key),
            node.node_type,
            node.label,
            node.position,
            node.serializer,
            node.size,
            node.sha256,
            node.model_name,
            node.model_version,
        )
        digest.update(_line(facts, node.fields or ""))
        places[node.key] = len(places)
    return digest.hexdigest()


def _line(facts: tuple[object, ...], document: str) -> bytes:
    return f"{(*facts, len(document))!a}{document}".encode()


def check_label(label: object) -> None:
    """Refuse what can't be a label on every database.

    Raises:
        LabelError: It is no string, empty, too long, or has characters that can't be kept.
    """
    if not isinstance(label, str):
        raise LabelError(shown(label), f"it is of type {type(label).__name__}")
    if not 0 < len(label) <= MAX_LABEL_LENGTH:
        raise LabelError(shown(label), f"it has {len(label)} characters")
    if label.isascii() and label.isprintable():
        return
    if any(ord(character) < 32 or 127 <= ord(character) < 160 for character in label):
        raise LabelError(shown(label), "it has control characters")
    if any(0xD800 <= ord(character) < 0xE000 for character in label):
        raise LabelError(shown(label), "it has an unpaired surrogate")
