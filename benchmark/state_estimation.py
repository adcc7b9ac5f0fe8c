"""Is the base estimated well? On a real walk, on walks whose truth is known, beside the methods that others use.

    python -m benchmark.state_estimation [--json OUT] [--plot DIR] [--seeds N] [--only CASE] [--icub DIR]

Cases: icub (a recording of a real robot), walk (synthetic), robot (simulated), convergence, speed. The truth is used to
score, and to start `convergence` wrong by a known amount; no estimator is given it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from benchmark.estimation_cases import Case, convergence_case, icub_case, robot_case, walk_case
from benchmark.estimation_speed import speed_case
from benchmark.table import Row, main

ICUB = Path(__file__).resolve().parents[2] / "shared/data/icub_walking"
CASES = {"walk": walk_case, "robot": robot_case, "convergence": convergence_case, "speed": speed_case}
NAMES = ("icub", *CASES)


def measure(a: argparse.Namespace) -> list[Row]:
    """The rows of all cases, or of one; drawn as well where that is asked for."""
    if a.only and a.only not in NAMES:
        raise SystemExit(f"state_estimation: --only: unknown case '{a.only}'; there are: {', '.join(NAMES)}")
    if a.seeds < 1:
        raise SystemExit("state_estimation: --seeds: at least 1")
    draw = _drawing() if a.plot else None
    rows = []
    for name in (a.only,) if a.only else NAMES:
        case: Case | None = icub_case(Path(a.icub)) if name == "icub" else CASES[name](a.seeds)
        if case is None:
            continue
        rows += case.rows
        if draw:
            draw(case, Path(a.plot))
    return rows


def _drawing() -> Callable[[Case, Path], None]:
    """What draws; asked for before anything is measured, so that it is not missed afterwards."""
    try:
        from benchmark.estimation_plots import draw
    except ModuleNotFoundError as e:
        raise SystemExit(f"state_estimation: --plot needs {e.name}: pip install {e.name}") from e
    return draw


if __name__ == "__main__":
    main(
        "state estimation",
        measure,
        ("seeds", 20, "of each case with random errors"),
        ("only", "", f"one case of: {', '.join(NAMES)}"),
        ("plot", "", "folder for a picture of each case; needs matplotlib"),
        ("icub", str(ICUB), "the recording of iCub"),
    )
