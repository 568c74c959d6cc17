"""An agent's own sockets: what is bound, and what a person reads when it cannot be."""

import pytest
import trio

from agent.doors import OwnDoors
from mesh.errors import MeshError
from mesh.net.http import Request, Response
from mesh.net.tcp import listen
from tests.rig import LOOPBACK, connected


async def answer(request: Request) -> Response:
    return Response(200, request.path.encode())


async def test_the_admin_port_is_bound_at_once_and_answers_when_served() -> None:
    doors = OwnDoors(LOOPBACK, 0)
    doors.open()
    port = int(doors.admin.rpartition(":")[2])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(doors.serve_admin, answer)
        async with connected(port) as wire:
            assert (await wire.ask(b"/here")).body == b"/here"
        nursery.cancel_scope.cancel()


async def test_a_port_in_use_is_told_with_the_remedy() -> None:
    taken = listen(LOOPBACK, 0)
    with pytest.raises(MeshError, match=f"admin port {taken.port} on 127.0.0.1 is in use; choose another with --admin"):
        OwnDoors(LOOPBACK, taken.port).open()
    taken.close()


async def test_an_address_that_is_not_here() -> None:
    with pytest.raises(MeshError, match=r"cannot bind the admin port 192\.0\.2\.1:0"):
        OwnDoors("192.0.2.1", 0).open()


async def test_listeners_get_sockets_of_their_own() -> None:
    doors = OwnDoors(LOOPBACK, 0)
    first, second = doors.bind("a", LOOPBACK, 0), doors.bind("a", LOOPBACK, 0)
    assert first.port != second.port
    first.close()
    second.close()
