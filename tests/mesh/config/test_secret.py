"""What may be shown of a secret."""

from mesh import config


def test_the_key_is_not_shown() -> None:
    secret = config.Secret("s", certificate="CERTIFICATE", key="PRIVATE", roots="ROOTS")
    assert secret.redacted() == config.Secret("s", certificate="CERTIFICATE", key="[redacted]", roots="ROOTS")
    assert "PRIVATE" not in f"{secret!r} {secret}"
    roots = config.Secret("r", roots="ROOTS")
    assert roots.redacted() is roots


def test_a_key_in_a_file_is_named_and_not_redacted() -> None:
    secret = config.Secret("s", certificate_file="/a.pem", key_file="/a.key")
    assert secret.redacted() == secret
