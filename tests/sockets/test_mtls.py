from tests.sockets.mesh_rig import SmallMesh
def test_x(mesh: SmallMesh) -> None:
    print(mesh.call("/x").json, mesh.client.said, mesh.server.said)
    print(mesh.server.ready, mesh.api("/api/proxies"))
