"""python -m tests.soak [--seconds N]"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import trio

from tests.soak.soak import soak


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="A gateway under load: nothing may grow.")
    parser.add_argument("--seconds", type=float, default=120)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mesh-soak-") as folder:
        outcome = trio.run(soak, arguments.seconds, Path(folder))
    for name, count in sorted(outcome.seen.items()):
        print(f"{count:9} {name}")
    print(f"before {outcome.before}\nafter  {outcome.after}")
    complaints = outcome.complaints()
    print("\n".join(complaints) or "nothing grew")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
