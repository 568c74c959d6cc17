"""python -m tests.docs.supported: write docs/supported.md from the models and from what is told to be not served."""

from __future__ import annotations

from collections.abc import Iterator

from pilot.resources.kinds import ISTIO_GROUPS, KINDS, OWNED_GROUPS, Kind
from pilot.resources.supported import Row, rows
from tests.docs.blocks import ROOT

DOCUMENT = ROOT / "docs" / "supported.md"
HEAD = """# What is served

Written by `make supported`; a test fails while it is out of date. Every field of Istio's kinds that the mesh knows:

- *served*: the mesh acts on it, since the version that is given;
- *partly*: for some values something else happens, which is said beside it;
- *reported*: it is read and checked, and what happens instead is told: by `meshctl validate` and by the pilot's log,
  with file and line. No field is ignored in silence;
- *refused*, *no effect*: as by Istio.

Any other field is an error. How strictly values are checked: [conformance.md](conformance.md).
"""


def document() -> str:
    """The whole text of docs/supported.md."""
    parts = [HEAD]
    parts += [_served(kind) for kind in KINDS if kind.group in ISTIO_GROUPS and not kind.instead]
    parts.append(_known([kind for kind in KINDS if kind.group in OWNED_GROUPS and kind.instead]))
    parts.append(_kubernetes([kind for kind in KINDS if kind.group not in OWNED_GROUPS]))
    return "\n".join(parts)


def _served(kind: Kind) -> str:
    head = ["| field | state | since | instead, or when |", "|---|---|---|---|"]
    return "\n".join([f"## {kind.name}\n", _versions(kind) + "\n", *head, *map(_line, rows(kind)), ""])


def _line(row: Row) -> str:
    note = f"as `{row.note}`" if row.state == "alike" else row.note.replace("|", "\\|")
    return f"| `{row.path}` | {row.state} | {row.since} | {note} |"


def _known(kinds: list[Kind]) -> str:
    lines = ["## Reported as a whole\n", "Whatever their fields say, this happens instead.\n"]
    lines += ["| kind | versions | checked | instead |", "|---|---|---|---|"]
    for kind in kinds:
        checked = "every field" if kind.spec is not None else "name and version"
        lines.append(f"| {kind.written or kind.name} | {_versions(kind)} | {checked} | {kind.instead} |")
    return "\n".join([*lines, ""])


def _kubernetes(kinds: list[Kind]) -> str:
    names = ", ".join(_names(kinds))
    return (
        "## Kubernetes' own kinds\n\n"
        f"{names}: read as far as a mesh needs them; their other fields are passed over, as the API server has judged\n"
        "them already.\n"
    )


def _names(kinds: list[Kind]) -> Iterator[str]:
    for kind in kinds:
        yield kind.name


def _versions(kind: Kind) -> str:
    return ", ".join(f"`{version}`" for version in kind.api_versions)


if __name__ == "__main__":
    DOCUMENT.write_text(document())
