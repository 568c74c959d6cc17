"""credentialName and certificate files -> secrets of the snapshot, under the names by which listeners refer to them.

A proxy is given Secrets of its own namespace only. What is missing or broken is reported where it is written; the
reference stays, so that handshakes fail there and nowhere else.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from mesh import config
from pilot.resources.core import Secret
from pilot.resources.object import Object
from pilot.translate.visibility import View

_CERTIFICATE: Final = ("tls.crt", "cert")
_KEY: Final = ("tls.key", "key")
_ROOTS: Final = ("ca.crt", "cacert")
_CRL: Final = ("ca.crl", "crl")
_CA: Final = "-cacert"
_SCHEMES: Final = ("kubernetes://", "kubernetes-gateway://")


def certificate_secret(view: View, obj: Object, path: str, credential: str) -> str:
    """The secret with the certificate and key that the field at `path` asks for."""
    namespace, name = _parse(view, obj, credential)
    made = f"kubernetes://{namespace}/{name}"
    secret = _find(view, obj, path, namespace, name)
    if secret is not None:
        _report_holes(view, secret, (_CERTIFICATE, _KEY))
        view.secrets[made] = config.Secret(made, _text(secret, _CERTIFICATE), _text(secret, _KEY))
    return made


def trust_secret(view: View, obj: Object, path: str, credential: str) -> str:
    """The secret with the roots: NAME-cacert where there is one, else NAME itself."""
    namespace, name = _parse(view, obj, credential)
    made = f"kubernetes://{namespace}/{name.removesuffix(_CA)}{_CA}"
    own = f"{name.removesuffix(_CA)}{_CA}"
    secret = view.world.get(("Secret", namespace, own)) if _may_have(view, obj, namespace) else None
    secret = secret or _find(view, obj, path, namespace, name)
    if secret is not None:
        _report_holes(view, secret, (_ROOTS,))
        view.secrets[made] = config.Secret(made, roots=_text(secret, _ROOTS), crl=_text(secret, _CRL))
    return made


def certificate_files(view: View, certificate: str, key: str) -> str:
    """The secret that the agent reads from these files of its own."""
    made = f"file-cert:{certificate}~{key}"
    view.secrets[made] = config.Secret(made, certificate_file=certificate, key_file=key)
    return made


def trust_files(view: View, roots: str, crl: str = "") -> str:
    """The same for roots, and a list of what is revoked."""
    made = f"file-root:{roots}" + (f"~{crl}" if crl else "")
    view.secrets[made] = config.Secret(made, roots_file=roots, crl_file=crl)
    return made


def _home(view: View, obj: Object) -> str:
    """Whose Secrets the proxy may have. A standalone gateway has no namespace but that of its files."""
    return obj.namespace if view.proxy.match_all_gateways else view.proxy.namespace


def _may_have(view: View, obj: Object, namespace: str) -> bool:
    return namespace == _home(view, obj)


def _parse(view: View, obj: Object, credential: str) -> tuple[str, str]:
    """(namespace, name) of NAME, kubernetes://NAME and kubernetes://NS/NAME."""
    for scheme in _SCHEMES:
        credential = credential.removeprefix(scheme)
    namespace, _, name = credential.rpartition("/")
    return namespace or _home(view, obj), name


def _find(view: View, obj: Object, path: str, namespace: str, name: str) -> Object | None:
    home = _home(view, obj)
    if namespace != home:
        remedy = f"put the Secret into namespace {home} and write its name alone"
        view.report(obj, path, f"Secret {namespace}/{name} is not given to a proxy of namespace {home}", remedy)
        return None
    found = view.world.get(("Secret", namespace, name))
    if found is None:
        remedy = f"create it in namespace {namespace}: kubectl create secret tls {name} --cert=FILE --key=FILE"
        view.report(obj, path, f"there is no Secret {namespace}/{name}, so TLS handshakes will be refused", remedy)
    return found


def _report_holes(view: View, secret: Object, wanted: tuple[tuple[str, ...], ...]) -> None:
    for keys in wanted:
        if not _text(secret, keys):
            view.report(
                secret,
                "data",
                f"holds no {keys[0]} in PEM, so TLS handshakes with it will be refused",
                f"add {keys[0]} (or {keys[1]}), base64 of PEM",
            )


def _text(obj: Object, keys: tuple[str, ...]) -> str:
    """The first of these keys that is there, as PEM; "" for what is none."""
    spec: Secret = obj.spec
    for key in keys:
        if key in spec.string_data:
            text = spec.string_data[key]
        elif key in spec.data:
            try:
                text = base64.b64decode("".join(spec.data[key].split()), validate=True).decode("ascii")
            except (binascii.Error, UnicodeDecodeError):
                return ""
        else:
            continue
        return text if "-----BEGIN " in text else ""
    return ""
