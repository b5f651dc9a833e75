"""Another attack on the same update, offered as a button after one that did not recover everything."""

from __future__ import annotations

from dataclasses import dataclass

from deepleak_core.attack.attacks import ATTACKS
from deepleak_core.errors import DeepLeakError
from deepleak_core.events import Finished
from deepleak_core.federated.models import network_of
from deepleak_core.runs.estimates import is_solvable
from deepleak_core.scenario import Scenario

EXACT = "exact"
OWN_SETTINGS = ("fedavg", "learning_rate", "total_variation", "restarts", "max_iterations")
CHECK_LABELS = "Let it check its labels"
SEPARATES = "Separate the blended images: one feature vector for each, then its pixels."
RECOVERS = "Solve for each image exactly instead of searching."
COMES_CLOSER = "This network is too deep to be solved exactly; this search comes closer."


@dataclass(frozen=True)
class NextStep:
    """A button and the scenario it runs."""

    words: str
    icon: str
    help: str
    scenario: Scenario


def next_step(scenario: Scenario, finished: Finished) -> NextStep | None:
    """The attack that promises more than came out: one that corrects wrong labels, else the exact one.

    Where images of one label came back as their blend, the exact attack is offered as what it does to them.
    Networks that it cannot solve are offered the search that suits them instead, if one is known.
    """
    if scenario.attack == EXACT or (finished.score and all(finished.score.pixel_exact)):
        return None
    if scenario.wrong_labels or scenario.mislabel:
        if scenario.repair_labels:
            return None
        correcting = scenario.changed(repair_labels=True)
        return NextStep(
            CHECK_LABELS, ":material/auto_fix_high:", "The same attack, which also looks for wrong labels.", correcting
        )
    if scenario.label_strategy is not None:
        return None
    exact = scenario.changed(attack=EXACT, feature_term=False, **dict.fromkeys(OWN_SETTINGS))
    if finished.score and any(finished.score.fused):
        return NextStep("Separate the images", ":material/call_split:", SEPARATES, exact)
    if (closer := network_of(scenario.model).suited_attack) is not None:
        if scenario.attack == closer:
            return None
        return NextStep(f"Try {ATTACKS[closer].title}", ":material/stacks:", COMES_CLOSER, exact.changed(attack=closer))
    return NextStep("Recover every pixel", ":material/grid_on:", RECOVERS, exact) if _can_be_solved(scenario) else None


def _can_be_solved(scenario: Scenario) -> bool:
    try:
        return is_solvable(scenario)
    except DeepLeakError:  # its data set or network is not on this machine
        return False
