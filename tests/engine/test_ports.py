"""Ports that processes share among themselves, and with nobody else."""

from __future__ import annotations

from contextlib import closing

import pytest

from engine.errors import SetupInvalid
from engine.ports import held_port, shared_port


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_held_port_is_shared_with_those_it_is_held_for(host: str) -> None:
    """Any free one, which the processes that were started listen on."""
    with closing(held_port((host, 0), "--web")) as held, closing(shared_port(held.getsockname()[:2])) as own:
        own.listen()

        assert own.getsockname() == held.getsockname()


def test_port_that_another_server_shares_is_taken() -> None:
    """Two servers would each get a part of the requests, without a word; so the second is refused."""
    with closing(held_port(("127.0.0.1", 0), "--web")) as first:
        address = first.getsockname()

        with pytest.raises(SetupInvalid) as refused:
            held_port(address, "--port")

    assert f"cannot listen on 127.0.0.1:{address[1]}: Address already in use" in str(refused.value)
    assert "choose another --port" in str(refused.value)


def test_port_is_free_again_at_once() -> None:
    """A server that was stopped can be started again."""
    with closing(held_port(("127.0.0.1", 0), "--web")) as first:
        address = first.getsockname()

    with closing(held_port(address, "--web")) as second:
        assert second.getsockname() == address
