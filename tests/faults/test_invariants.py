"""What the tests of faults wait for."""

import socket
import sys
from contextlib import closing

import pytest
from invariants import ports_left
from servers import LOOPBACK


@pytest.mark.skipif(sys.platform != "linux", reason="told by /proc")
@pytest.mark.parametrize("by_the_client", [True, False])
def test_a_server_s_port_is_left_when_a_client_has_gone(by_the_client: bool) -> None:
    """And not when the server has closed what was idle, which a client may not notice for long."""
    with closing(socket.create_server((LOOPBACK, 0))) as listener:
        port = listener.getsockname()[1]
        client = socket.create_connection((LOOPBACK, port))
        server, _ = listener.accept()
        first, second = (client, server) if by_the_client else (server, client)
        with closing(second):
            assert port not in ports_left()
            first.close()
            assert second.recv(1) == b""

            is_left = port in ports_left()

        assert is_left == by_the_client
        assert port not in ports_left()
