"""All benchmarks, one after the other, as one table. `python -m benchmark [CLAIM …] [--json OUT]`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmark.table import Row, show

CLAIMS = (
    "sync_latency",
    "node_cost",
    "emergency_stop",
    "memory",
    "state_estimation",
    "fast_imu",
    "thermal",
    "recording",
    "virtual_camera",
    "virtual_sensors",
    "sensor_timing",
    "prediction_cost",
    "prediction_skill",
    "prediction_falls",
    "prediction_node",
    "drift_detection",
    "closed_loop",
    "identification",
    "gate",
    "rollouts",
    "optimise",
)


def main() -> int:
    """Run each in a process of its own; exits with 1 when one could not be run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("claims", nargs="*", metavar="CLAIM", help=f"which of: {', '.join(CLAIMS)} (default: all)")
    parser.add_argument("--json", metavar="OUT", default="")
    a = parser.parse_args()
    unknown = set(a.claims) - set(CLAIMS)
    if unknown:
        parser.error(f"unknown claim {', '.join(sorted(unknown))}; there are: {', '.join(CLAIMS)}")
    results: dict[str, list[dict[str, object]]] = {}
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        for claim in a.claims or CLAIMS:
            out = Path(folder) / f"{claim}.json"
            print(f"… {claim}", flush=True)
            done = subprocess.run(
                [sys.executable, "-m", f"benchmark.{claim}", "--json", str(out)], stdout=subprocess.DEVNULL
            )
            if done.returncode:
                failed.append(claim)
            else:
                results |= json.loads(out.read_text())
    fields = set(Row.__dataclass_fields__)
    show("all", [Row(**{k: v for k, v in r.items() if k in fields}) for rows in results.values() for r in rows])  # type: ignore[arg-type]
    if a.json:
        Path(a.json).write_text(json.dumps(results, indent=2) + "\n")
    for claim in failed:
        print(f"benchmark: {claim} could not be run", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
