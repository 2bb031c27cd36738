"""What is larger than the memory that there is can be saved."""

import pytest

from artigraph.testing.process import in_fresh_process

PROGRAM = """
import resource, sys
from pathlib import Path
import pyarrow as pa
import pyarrow.compute as pc
from artigraph.testing.files import Sieve
from artigraph_arrow.plugin import artigraph_serializers

serializer, = (each for each in artigraph_serializers() if each.name == sys.argv[1])
numbers = pa.array(range(2**18))
texts = numbers.cast(pa.string())

def batches():
    for i in range(128):
        yield pa.record_batch({"a": pc.add(numbers, i), "b": texts})

schema = pa.schema({"a": pa.int64(), "b": pa.string()})
reader = pa.RecordBatchReader.from_batches(schema, batches())
serializer.dump(pa.table({"a": numbers}), Sieve())  # so that all threads are there
lines = Path("/proc/self/status").read_text().splitlines()
used = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (used + 2**28, used + 2**28))
file = Sieve()
serializer.dump(reader, file)
print(file.size, sum(batch.nbytes for batch in batches()))
"""


@pytest.mark.parametrize("name", ["pyarrow.table.feather", "pyarrow.table.parquet"])
def test_a_reader_of_more_than_the_memory_is_saved(name: str) -> None:
    """Its batches are written as they come, and forgotten."""
    written, yielded = map(int, in_fresh_process(PROGRAM, name).split())

    assert yielded > 1.5 * 2**28
    assert written > yielded / 10
