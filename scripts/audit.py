"""Ask public advisories about every library of an environment, by pip-audit.

python scripts/audit.py PIP-AUDIT SITE-PACKAGES

Status 0: all were asked about, and no advisory is known. 1: there are advisories. 3: some could not be asked about, as there is
no network or the advisories' server does not know them; pip-audit itself ends with 0 then.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

FOUND, NOT_ASKED = 1, 3
OURSELVES = "robust-transfer"  # is in no registry that would know of it


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pip_audit", type=Path)
    parser.add_argument("libraries", type=Path)
    asked = parser.parse_args()
    words = [str(asked.pip_audit), "--path", str(asked.libraries), "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    lines, status = judged(done.stdout, done.stderr)
    print("\n".join(lines))
    sys.exit(status)


def judged(out: str, err: str) -> tuple[list[str], int]:
    """Sentences on what pip-audit printed, and the exit status."""
    try:
        asked: list[dict[str, Any]] = json.loads(out)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (err.strip().splitlines() or ["it printed nothing"])[-1]
        return [f"audit: no advisories were reached, so nothing was audited ({last[:300]})"], NOT_ASKED
    others = [each for each in asked if each["name"] != OURSELVES]
    skipped = [each["name"] for each in others if "skip_reason" in each]
    lines = [
        f"audit: {each['name']} {each['version']}: {found['id']}, mended in {', '.join(found['fix_versions']) or 'none yet'}"
        for each in others
        for found in each.get("vulns", [])
    ]
    status = FOUND if lines else 0
    if skipped or not others:
        names = ", ".join(skipped[:10]) + (" ..." if len(skipped) > 10 else "")
        lines.append(
            f"audit: {len(skipped)} of {len(others)} libraries could not be asked about: {names or 'there are none'}"
        )
        status = status or NOT_ASKED
    return lines or [f"audit: {len(others)} libraries, no known advisory"], status


if __name__ == "__main__":
    main()
