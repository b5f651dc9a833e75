"""Run scenarios that arrive as JSON lines, and answer each with the PSNR of its worst image over time.

A process of its own, started by `benchmarks.solvers`: it imports `deepleak_core` from the folder it is started in,
which may hold an earlier revision, and so uses nothing but the interface of that package.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch

import deepleak_core
from deepleak_core.events import Finished, Snapshot
from deepleak_core.scenario import Scenario


def main() -> None:
    """Answer until there are no more lines; the argument is the number of CPU threads."""
    torch.set_num_threads(int(sys.argv[1]))
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    for line in sys.stdin:
        print(json.dumps(levels(Scenario(**json.loads(line)))), file=answers, flush=True)


def levels(scenario: Scenario) -> dict[str, Any]:
    """Attack time in seconds and PSNR of the worst image for each snapshot, and how the attack ended."""
    events = list(deepleak_core.run(scenario))
    scored = [(event.seconds, event.score) for event in events if isinstance(event, Snapshot)]
    finished = next(event for event in events if isinstance(event, Finished))
    return {
        "worst": [(seconds, min(score.psnr)) for seconds, score in scored if score is not None],
        "seconds": finished.seconds,
        "certified": getattr(finished, "certified", False),  # a field that older revisions do not have
        "package": deepleak_core.__file__,
    }


if __name__ == "__main__":
    main()
