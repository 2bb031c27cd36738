"""Memory for much data: zeros that may be written to, and copies of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artigraph.memory import as_bytes, new_memory

MIB = 2**20


@pytest.mark.parametrize("size", [0, 1, 4 * MIB, 4 * MIB + 1, 20 * MIB])
def test_new_memory_is_of_zeros_and_can_be_written_to(size: int) -> None:
    memory, other = new_memory(size), new_memory(size)

    assert (memory.format, memory.nbytes, memory.readonly) == ("B", size, False)
    assert memory == bytes(size)
    memory[-1:] = b"x" * min(size, 1)
    assert bytes(memory[-1:]) == b"x" * min(size, 1)
    assert other == bytes(size)


def test_memory_that_is_not_there_is_told_as_of_a_bytearray() -> None:
    for make in (bytearray, new_memory):
        with pytest.raises(MemoryError):
            make(2**62)


@given(st.binary(), st.sampled_from([bytes, bytearray, memoryview]))
def test_bytes_are_those_of_the_data(data: bytes, kind: type) -> None:
    assert as_bytes(kind(data)) == data
    assert type(as_bytes(kind(data))) is bytes


@pytest.mark.parametrize("size", [4 * MIB, 4 * MIB + 1, 9 * MIB - 1])
def test_much_data_is_copied_whole(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)

    assert as_bytes(memoryview(data)[:size]) == data[:size]


def test_what_is_bytes_is_not_copied() -> None:
    data = bytes(MIB)

    assert as_bytes(data) is data
