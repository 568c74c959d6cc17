import pytest

from agent.codec import ENGINES, http1_client, http1_server
from agent.codec.h1_client import ClientConnection
from agent.codec.h1_server import ServerConnection
from agent.codec.message import Limits


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_serves_both_roles(engine: str) -> None:
    server: ServerConnection = http1_server(Limits(), engine)
    client: ClientConnection = http1_client(Limits(), engine)
    assert server.next_event() is None
    assert client.next_event() is None


def test_an_unknown_engine_is_named() -> None:
    with pytest.raises(ValueError, match="write one of auto, fast, reference"):
        http1_server(Limits(), "quick")
