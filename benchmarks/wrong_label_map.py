"""Record what every possible wrong label costs on the batches that the app offers first.

python -m benchmarks.wrong_label_map

Writes deepleak_core/studies/wrong_labels.json, which the page One wrong label shows. Every attack of a map gets the
same update and the same number of iterations (`studies.wrong_labels.ITERATIONS`), so the figures do not depend on how
busy the machine is.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch

from benchmarks import markdown, outcomes
from benchmarks.machine import describe_machine
from deepleak_core.events import WrongLabelTried
from deepleak_core.runs.threads import cpu_threads
from deepleak_core.scenario import Scenario
from deepleak_core.studies.wrong_labels import (
    ITERATIONS,
    RECORDED,
    WrongLabelMap,
    empty_map,
    from_values,
    rows_of,
    to_values,
)

BATCHES = (Scenario(indices=(0, 1, 3, 4)),)


def main() -> None:
    """Compute every map and write the file."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(cpu_threads())
    maps = [to_values(measured(scenario)) for scenario in BATCHES]
    command = outcomes.command("benchmarks.wrong_label_map")
    values = {"command": command, "machine": describe_machine(), "iterations": ITERATIONS, "maps": maps}
    outcomes.write(RECORDED, values)


def measured(scenario: Scenario) -> WrongLabelMap:
    """The whole map of one batch; prints each outcome."""
    found = empty_map(scenario)
    for row in rows_of(found):
        for event in row.run():
            if isinstance(event, WrongLabelTried):
                found = replace(found, tried={**found.tried, event.swap: event})
                verdict = f"{event.mean_psnr:.1f} dB, {event.recognisable} of {len(event.psnr)} recognisable"
                print(f"{event.swap or 'all correct'}: {verdict}", flush=True)
    return found


def table() -> str:
    """What each possible wrong label costs, one table for each recorded map."""
    found = outcomes.read(RECORDED)
    return markdown.source(found) + "\n\n".join(map(one_map, map(from_values, found["maps"])))


def one_map(found: WrongLabelMap) -> str:
    """Loss of mean PSNR in dB, and the images that stay recognisable."""
    head = ("label \\ labelled as", *found.class_names)
    rows = [
        (found.class_names[label], *(entry(found, found.swap(label, other)) for other in range(len(head) - 1)))
        for label in found.labels
    ]
    return markdown.table(head, rows)


def entry(found: WrongLabelMap, swap: str) -> str | None:
    """One wrong label in the map; none for the true class."""
    loss = found.loss(swap)
    return f"{loss:.1f} dB, {found.tried[swap].recognisable} left" if swap and loss is not None else None


if __name__ == "__main__":
    main()
