"""What the demo tells a visitor: five commands to try, and the line that shows what they do."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

_TEXT = """
Open {page} in a browser and reload it a few times. Then try, in another terminal:

  1. Send nine of ten requests to reviews v1 and one to v3:
     {meshctl} apply -f {samples}/reviews-90-10.yaml

  2. Route by user: sign in as jason for red stars, sign out for none:
     {meshctl} apply -f {samples}/reviews-by-user.yaml

  3. Make ratings two seconds slower, for jason alone:
     {meshctl} apply -f {samples}/ratings-delay.yaml

  4. Break reviews v3, watch it being ejected, heal it and watch it come back:
     {meshctl} apply -f {samples}/reviews-all.yaml && {breaking}
     {meshctl} proxy-config endpoints productpage-v1
     {healing}

  5. Kill the pilot; the page goes on, and the pilot returns after some seconds:
     kill -9 {pilot}

Ctrl-C ends everything.
"""


def text(page: str, samples: Path, pilot: int, v3_port: int) -> str:
    """The tour with commands that can be copied as they stand."""
    return _TEXT.format(
        page=page,
        meshctl=meshctl(),
        samples=_short(samples),
        pilot=pilot,
        breaking=post(f"http://127.0.0.1:{v3_port}/break"),
        healing=post(f"http://127.0.0.1:{v3_port}/heal"),
    )


def meshctl() -> str:
    """How the visitor's shell finds the meshctl that runs now."""
    ours = Path(sys.executable).parent / "meshctl"
    found = shutil.which("meshctl")
    return "meshctl" if found and os.path.realpath(found) == os.path.realpath(ours) else _short(ours)


def post(url: str) -> str:
    """A command that POSTs nothing to `url` with what this machine has."""
    if shutil.which("curl"):
        return f"curl -s -X POST {url}"
    return f"""{_short(Path(sys.executable))} -c "import urllib.request as u; u.urlopen('{url}', b'')\""""


def _short(path: Path) -> str:
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


def status_line(
    now: dict[str, int], before: dict[str, int], errors: dict[str, int], seconds: float, *, pilot_is_alive: bool
) -> str:
    """`reviews  v1 2.5/s  v2 2.5/s (3 failed)  v3 0.0/s`: rates since the last line, failures since the start."""
    parts = []
    for version, count in now.items():
        failed = f" ({errors[version]} failed)" if errors.get(version) else ""
        parts.append(f"{version} {(count - before.get(version, 0)) / seconds:.1f}/s{failed}")
    pilot = "" if pilot_is_alive else "  (no pilot)"
    return "reviews  " + ("  ".join(parts) or "no request yet") + pilot
