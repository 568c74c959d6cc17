from pilot.resources.istio_gateway import Port, ServerTlsSettings
from tests.pilot.faults import spec


def test_every_field_decodes():
    made = spec(
        "Gateway",
        """
        selector: {istio: ingressgateway}
        servers:
        - name: s
          bind: 127.0.0.1
          port: {number: 443, protocol: HTTPS, name: https}
          hosts: ["ns/*.example.com"]
          tls:
            mode: MUTUAL
            serverCertificate: a
            privateKey: b
            caCertificates: c
            caCrl: d
            subjectAltNames: [e]
            verifyCertificateSpki: [f]
            verifyCertificateHash: [g]
            minProtocolVersion: TLSV1_2
            maxProtocolVersion: TLSV1_3
            cipherSuites: [AES128-SHA]
        """,
    )
    (server,) = made.servers
    assert made.selector == {"istio": "ingressgateway"}
    assert server.port == Port(number=443, protocol="HTTPS", name="https")
    assert server.tls == ServerTlsSettings(
        mode="MUTUAL",
        server_certificate="a",
        private_key="b",
        ca_certificates="c",
        ca_crl="d",
        subject_alt_names=("e",),
        verify_certificate_spki=("f",),
        verify_certificate_hash=("g",),
        min_protocol_version="TLSV1_2",
        max_protocol_version="TLSV1_3",
        cipher_suites=("AES128-SHA",),
    )
