"""Write the tables of docs/benchmarks.md from benchmarks/results/*.json.

python -m benchmarks.tables             write them
python -m benchmarks.tables --print     print one after the other instead

In docs/benchmarks.md a line `<!-- table NAME -->` is followed by what `TABLES[NAME]` makes and a line `<!-- end -->`.
Each table begins with the command and the machine that its figures were measured with. It is made by the module that
measures them, in the format of `benchmarks.markdown`.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

from benchmarks import (
    against,
    against_gradinversion,
    app_overhead,
    attack_speed,
    estimates,
    faults,
    first_sight,
    fusion,
    gpu_check,
    hard_networks,
    label_ablation,
    label_accuracy,
    lbfgs,
    limits,
    load,
    markdown,
    solvers,
    time_shares,
    wrong_label_map,
    wrong_labels,
)
from deepleak_core.federated import checkpoints

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
BLOCK = re.compile(r"(<!-- table (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> None:
    """Write or print every table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--print", action="store_true", help="print the tables, leave the page as it is")
    if parser.parse_args().print:
        print("\n\n".join(f"{name}\n\n{make()}" for name, make in TABLES.items()))
    else:
        PAGE.write_text(updated(PAGE.read_text()))


def updated(page: str) -> str:
    """A page with all its tables made anew. Raises KeyError for a table that is none of `TABLES`."""
    return BLOCK.sub(lambda block: f"{block[1]}\n{TABLES[block['name']]()}\n\n{block[3]}", page)


def training_stages() -> str:
    """Every checkpoint of the package: how far the network was trained, and its accuracy on test images."""
    rows = []
    for path in sorted(checkpoints.CHECKPOINTS.glob("*.safetensors")):
        model, classes, stage = path.stem.split("--")
        rows.append((model, classes, stage, *checkpoints.describe(path).removesuffix(" accuracy").split(", ")))
    return markdown.table(("model", "classes", "stage", "trained for", "accuracy"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "training-stages": training_stages,
    "solvers": solvers.table,
    "hard-networks": hard_networks.table,
    "limits": limits.table,
    "time-shares": time_shares.table,
    "estimates": estimates.table,
    "first-sight": first_sight.table,
    "attack-speed-cpu": lambda: attack_speed.table("cpu"),
    "attack-speed-gpu": lambda: attack_speed.table("cuda"),
    "gpu": gpu_check.table,
    "lbfgs": lbfgs.table,
    "against-gradinversion": against_gradinversion.table,
    "against-breaching": lambda: against.table("breaching"),
    "against-leakpro": lambda: against.table("leakpro"),
    "wrong-labels": wrong_labels.table,
    "wrong-label-map": wrong_label_map.table,
    "fusion": fusion.table,
    "label-summary": label_accuracy.summary,
    "labels-random": lambda: label_accuracy.table("random"),
    "labels-skewed": lambda: label_accuracy.table("skewed"),
    "labels-one-class": lambda: label_accuracy.table("same"),
    "label-commands": label_accuracy.commands,
    "label-ablation": label_ablation.table,
    "app-overhead": app_overhead.table,
    "faults": faults.table,
    "hostile-inputs": faults.table_of_inputs,
    "load": load.table,
}

if __name__ == "__main__":
    main()
