"""What is larger than the memory that there is can be saved."""

from pathlib import Path

import polars as pl
import pytest

from artigraph.testing.process import in_fresh_process

MEMORY = 3 * 2**27

PROGRAM = """
import resource, sys
from pathlib import Path
import polars as pl
from artigraph.testing.files import Sieve
from artigraph_polars.plugin import artigraph_serializers

serializer, = (each for each in artigraph_serializers() if each.name == sys.argv[1])
part = pl.scan_ipc(sys.argv[2])
serializer.dump(part, Sieve())  # so that all threads are there
lines = Path("/proc/self/status").read_text().splitlines()
used = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (used + int(sys.argv[3]),) * 2)
file = Sieve()
serializer.dump(pl.concat([part] * 128).with_columns(c=pl.col("a") + 1), file)
print(file.size)
"""


@pytest.mark.parametrize("name", ["polars.dataframe.ipc", "polars.dataframe.parquet"])
def test_a_query_of_more_than_the_memory_is_saved(name: str, tmp_path: Path) -> None:
    """Its result is written as it comes, and forgotten."""
    numbers = pl.int_range(2**18, eager=True)
    part = pl.DataFrame({"a": numbers, "b": "number " + numbers.cast(pl.String)})
    part.write_ipc(tmp_path / "part")

    written = int(in_fresh_process(PROGRAM, name, str(tmp_path / "part"), str(MEMORY)))

    assert 128 * part.with_columns(c="a").estimated_size() > 2 * MEMORY
    assert written > 2**26
