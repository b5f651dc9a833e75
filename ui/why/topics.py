"""What "Why?" can explain: one entry of `TOPICS` for each reason behind a result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from deepleak_core.events import Finished
from deepleak_core.scenario import Scenario


@dataclass(frozen=True, kw_only=True)
class Topic:
    """A reason: `sentence` for everybody, `drawing` of assets/explain with what it `shows`, `formula` as Markdown.

    `helps` says what would protect the images, or that this does not. `section` is the section of How it works that
    says more.
    """

    sentence: str
    helps: str
    drawing: str
    shows: str
    formula: str
    section: str


TOPICS = {
    "leak": Topic(
        sentence="A gradient is made by multiplying errors with the images themselves, so the images can be "
        "calculated back from it.",
        helps="Differential privacy: the client limits what each image contributes, then adds noise. Or secure "
        "aggregation: the server sees only the sum over many clients.",
        drawing="leak",
        shows="An image times an error is its gradient; the gradient divided by the error is the image again.",
        formula=r"""
For a layer $z = W x + b$ with errors $\delta = \partial \ell / \partial z$:

$$ \frac{\partial \ell}{\partial W} = \delta\, x^\top, \qquad \frac{\partial \ell}{\partial b} = \delta $$

A row of the first divided by the same entry of the second is the input $x$ (Phong et al. 2018).
""",
        section="holds-images",
    ),
    "fedavg": Topic(
        sentence="After a few steps, the difference between the old and the new weights is close to one large "
        "gradient, and the server can simulate the steps.",
        helps="More local steps help against an attack that takes the difference for a gradient, less against one that "
        "simulates them. Differential privacy gives a guarantee.",
        drawing="fedavg",
        shows="Local steps follow a curve from the weights sent to those returned; a straight line joins both.",
        formula=r"""
After $T$ local steps at rate $\eta$:

$$ g \approx \frac{\theta_0 - \theta_T}{\eta\, T} $$

The more steps and the larger the rate, the rougher the approximation (McMahan et al. 2017; Geng et al. 2021).
""",
        section="holds-images",
    ),
    "wrong-label": Topic(
        sentence="With one wrong label the attack cannot match the shared gradient. It distorts all images to come as "
        "close as it can.",
        helps="Hiding a label is no defence: the attacker sees that the gradients do not match, and corrects the "
        "label. Noise in the update hides this.",
        drawing="wrong-label",
        shows="A ship is labelled as a deer: two rows of the gradient differ, and all four images get worse.",
        formula=r"""
Row $c$ of the last layer's gradient is mainly minus the sum of the features $f_k$ of class $c$:

$$ \frac{\partial L}{\partial W_c} = \frac1K \sum_k (p_{k,c} - [y_k = c])\, f_k^\top $$

One wrong $y_k$ makes two rows wrong. All images share the layers below, so all of them are changed
(Geng et al. 2021).
""",
        section="wrong-label",
    ),
    "fusion": Topic(
        sentence="The update holds the images of one class only as a sum. A sum does not say what its parts are, so "
        "the attack returns their blend.",
        helps="Equal labels are no defence: the exact attack takes the blend apart. Noise in the update hides "
        "the small differences that it needs.",
        drawing="fusion",
        shows="Four frogs are added to one sum, which comes back as the same blurred blend four times.",
        formula=r"""
As long as the network predicts the same for two images $i, j$ of class $c$, only their sum enters:

$$ \frac{\partial L}{\partial W_c} \approx -\frac1K (f_i + f_j)^\top + \dots $$

So $f_i + v$ and $f_j - v$ fit as well for any $v$ (Geng et al. 2021).
""",
        section="fusion",
    ),
    "separation": Topic(
        sentence="The network's prediction differs slightly from image to image. These differences give enough "
        "equations to separate the images.",
        helps="A little noise in the update hides these differences, and with as many images as classes there "
        "are too few equations.",
        drawing="separation",
        shows="Four equal blends and four slightly different predictions give four separate frogs.",
        formula=r"""
With signals $a_k = p_k - e_{y_k}$ the last layer's gradient is

$$ G = \sum_k a_k\, [f_k, 1]^\top $$

and softmax relates both factors:

$$ a_k = \mathrm{softmax}(W f_k + b) - e_{y_k} $$

With fewer images than classes there are more equations than unknowns.
""",
        section="fusion",
    ),
    "label-inference": Topic(
        sentence="Training pushes up exactly the classes that are in the batch, so these classes stand out in the "
        "update.",
        helps="Noise in the update, or a server that sees only the sum over many clients.",
        drawing="label-inference",
        shows="One bar for each class: those below zero are the classes in the batch.",
        formula=r"""
The gradient of the last layer's bias is the mean prediction minus the mean label. Solved for the counts $n$:

$$ n = K\,\bar p - K\, \frac{\partial L}{\partial b} $$

Only the mean prediction $\bar p$ has to be estimated (Geng et al. 2021).
""",
        section="labels",
    ),
    "gradinversion": Topic(
        sentence="GradInversion finds which classes occur, not how often. If a class occurs twice, it guesses one "
        "label, and one wrong label makes every image worse.",
        helps="Repeated labels are no defence: other attacks count them correctly. Differential privacy limits every "
        "attack.",
        drawing="gradinversion",
        shows="A batch of two frogs and a ship: the list of classes lacks a frog, the counts include both.",
        formula=r"""
GradInversion takes the $K$ classes with the smallest column minima (Yin et al. 2021):

$$ \hat y = \operatorname*{arg\,sort}_c \, \min_d \frac{\partial L}{\partial W_{c,d}} $$

Each class occurs at most once. Counts need the size of the entries, not only their order.
""",
        section="labels",
    ),
    "trained": Topic(
        sentence="A trained network makes small errors, and a small error leaves only a weak trace of its image.",
        helps="Training is no defence: early rounds and images that the network gets wrong still leave strong "
        "traces. Noise in the update hides these too.",
        drawing="trained",
        shows="The error of an untrained network is large, that of a trained one almost none.",
        formula=r"""
Each image enters the gradient times its error

$$ a_k = p_k - e_{y_k} $$

which tends to zero for images that the network has learnt. Rules that estimate the mean prediction $\bar p$ from noise
fail as well: a trained network predicts something else for noise.
""",
        section="labels",
    ),
}


def _repeats(scenario: Scenario) -> bool:
    """Whether the scenario says that labels repeat; named images do not say it."""
    labels = scenario.labels or ()
    return scenario.composition in ("pair", "half", "same") or len(set(labels)) < len(labels)


def _fused(scenario: Scenario, end: Finished | None) -> bool:
    return bool(end.score.fusion) if end and end.score else _repeats(scenario)


def _separated(end: Finished | None) -> bool:
    return bool(end and end.score and end.score.fused and {*end.score.outcomes} == {"recovered"})


# The first reason that fits an outcome explains it.
_REASONS: tuple[tuple[str, Callable[[Scenario, Finished | None], bool]], ...] = (
    ("wrong-label", lambda scenario, end: bool(scenario.wrong_labels or scenario.mislabel)),
    ("separation", lambda scenario, end: _separated(end)),
    ("fusion", _fused),
    ("trained", lambda scenario, end: scenario.stage != "untrained"),
    ("gradinversion", lambda scenario, end: scenario.attack == "gradinversion"),
    ("fedavg", lambda scenario, end: scenario.mode == "fedavg"),
)


def topic_of(scenario: Scenario, finished: Finished | None = None) -> str:
    """The topic that explains the outcome of a run, or what it is about before it has ended.

    >>> topic_of(Scenario(wrong_labels=1)), topic_of(Scenario())
    ('wrong-label', 'leak')
    """
    return next((name for name, fits in _REASONS if fits(scenario, finished)), "leak")
