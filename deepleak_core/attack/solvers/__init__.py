"""Solvers: from an objective and a starting point to a sequence of iterates.

Each solver is a generator of `Iterate`, so its caller decides when to stop. Points are (R, B, C, H, W). To add a
solver, write a file with a generator that has the signature of `Minimise`, and add one entry to `SOLVERS`.
"""

from __future__ import annotations

from functools import partial

from deepleak_core.attack.solvers.adam import adam
from deepleak_core.attack.solvers.lbfgs import lbfgs
from deepleak_core.attack.solvers.levenberg_marquardt import Equations, Linearisation, levenberg_marquardt
from deepleak_core.attack.solvers.schedules import SCHEDULES
from deepleak_core.attack.solvers.solver import Iterate, Minimise, Solver
from deepleak_core.attack.solvers.spectral import spectral_adam

__all__ = [
    "SCHEDULES",
    "SOLVERS",
    "Equations",
    "Iterate",
    "Linearisation",
    "Minimise",
    "Solver",
    "adam",
    "lbfgs",
    "levenberg_marquardt",
    "spectral_adam",
]

SOLVERS: dict[str, Solver] = {
    "adam": Solver(title="Adam", source="Kingma and Ba 2015", minimise=adam, takes_learning_rate=True),
    "signed-adam": Solver(
        title="Adam on the gradient's sign",
        source="Geiping et al. 2020, arXiv 2003.14053",
        minimise=partial(adam, signed=True),
        takes_learning_rate=True,
    ),
    "spectral-adam": Solver(
        title="Signed Adam on spatial frequencies",
        source="Olah et al. 2017, Feature Visualization (the parametrisation)",
        minimise=spectral_adam,
        takes_learning_rate=True,
    ),
    "lbfgs": Solver(title="L-BFGS", source="Liu and Nocedal 1989", minimise=lbfgs),
}
