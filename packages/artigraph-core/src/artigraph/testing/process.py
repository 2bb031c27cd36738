"""Another Python, which has seen nothing of this one but what is installed."""

import os
import subprocess
import sys
from collections.abc import Mapping


def in_fresh_process(
    program: str, *arguments: str, data: bytes = b"", environment: Mapping[str, str] | None = None
) -> bytes:
    """What a program prints in a new process of this interpreter.

    Args:
        program: Its source.
        arguments: Its `sys.argv[1:]`.
        data: What it reads.
        environment: Variables beside those of this process.

    Raises:
        AssertionError: It failed; the text is what it printed of the reason.
    """
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        input=data,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr.decode(errors="replace")
    return ended.stdout
