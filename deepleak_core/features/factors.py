"""Low-rank factors of the last layer's gradient.

The summed gradient of K images, weights and bias side by side, has rank K:

    [G, g] = sum_k a_k [f_k, 1]^T = U S V^T,     so     [f_k, 1] = V m_k,     a_k = U c_k,     m_k . S^-1 c_l = [k = l].

Feature vectors f_k (D,) are therefore K unknown coordinates m_k each, and features and signals a_k are biorthogonal
in the factors. Large layers are factored by a randomised range finder (Halko, Martinsson and Tropp 2011).
SPEAR (Dimitrov et al. 2024) uses the same factorisation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from deepleak_core.errors import CannotSeparate
from deepleak_core.features.last_layer import EPSILON, LastLayer, SummedGradient, rows_times, summed_gradient, unit_rows
from deepleak_core.federated.case import Case

SMALLEST_NOISE = EPSILON / 16  # of the largest entry: rounding is never taken to be smaller than this
FEW_BOUNDS = 300  # features up to which every one of them is a bound in a search
FULL_SVD_OPERATIONS = 3e9  # rows^2 x columns up to which a full SVD takes about a second
OVERSAMPLING, POWER_ITERATIONS = 24, 3  # of the randomised range finder; measured on 1001 x 16384 gradients


@dataclass(frozen=True, kw_only=True)
class Factors:
    """The summed gradient of K images in factored form; see the formulas at the head of this module.

    `left` is U (C, K), `singular_values` S (K,), and `basis` the rows of V that belong to features, (D, K). `ones` is
    the row of V that belongs to the bias (K,): ones . m = 1 for every image; None without a bias. `logit_map` W V
    (C, K) and `offset` b (C,) turn coordinates m into logits.

    `noise` is the root mean square of the rounding error of an entry of the summed gradient, `left_out` the norm of
    what its K leading singular triples leave. `row_lengths` (C, 1) are the lengths of the gradient's rows,
    `relative_noise` and `spectrum` the rounding error and the leading singular values of the gradient whose rows are
    scaled to unit length: values after the K-th are noise.
    """

    layer: LastLayer
    left: Tensor
    singular_values: Tensor
    basis: Tensor
    ones: Tensor | None
    logit_map: Tensor
    offset: Tensor
    noise: float
    left_out: float
    row_lengths: Tensor
    relative_noise: float
    spectrum: Tensor

    @classmethod
    def of(cls, layer: LastLayer, images: int) -> Factors:
        """Factor the gradient of a batch of `images`.

        Rows are scaled to unit length before the SVD: rounding is relative, and rows of classes that hardly occur are
        small but as precise as others. Raises `CannotSeparate` where the gradient is zero or not finite, or where it
        has too few rows or columns for so many images.
        """
        gradient = summed_gradient(layer, images)
        check_capacity(layer, images)
        rows, lengths = unit_rows(gradient)
        u, spectrum, vt, rest = truncated_svd(rows, images)
        q, r = torch.linalg.qr(lengths[:, None] * u * spectrum[:images])
        left, values, right = torch.linalg.svd(r)
        vt = right @ vt
        classes, columns = gradient.shape
        spare = max(1, (classes - images) * (columns - images))
        dimension = layer.weight.shape[1]
        basis = vt[:, :dimension].T
        largest, left_out = largest_entries(gradient), float((rest * lengths).norm())
        return cls(
            layer=layer,
            left=q @ left,
            singular_values=values,
            basis=basis,
            ones=vt[:, dimension] if columns > dimension else None,
            logit_map=rows_times(layer.weight, basis),
            offset=torch.zeros(classes).to(values) if layer.bias is None else layer.bias.double(),
            noise=max(left_out / spare**0.5, SMALLEST_NOISE * float(largest.max())),
            left_out=left_out,
            row_lengths=lengths[:, None],
            relative_noise=max(float(rest.norm()) / spare**0.5, SMALLEST_NOISE * float((largest / lengths).max())),
            spectrum=spectrum,
        )

    @property
    def images(self) -> int:
        """Number of images K."""
        return len(self.singular_values)

    @property
    def heights(self) -> Tensor | None:
        """Map (D, K) from coordinates m to features above their floor; None without a bias or a floor."""
        floor = self.layer.floor
        return None if self.ones is None or floor is None else self.basis - floor * self.ones

    @property
    def bounds(self) -> Tensor | None:
        """All of `heights` where they are few; otherwise the simplex search selects those that matter."""
        heights = self.heights
        return heights if heights is not None and len(heights) <= FEW_BOUNDS else None

    @property
    def shared_point(self) -> Tensor | None:
        """The shortest m (K,) with ones . m = 1, which is what all images have in common; None without a bias."""
        return None if self.ones is None else self.ones / self.ones.square().sum()

    @property
    def typical_height(self) -> float:
        """Mean absolute height above the floor at the `shared_point`. Needs a bias and a floor."""
        heights, shared = self.heights, self.shared_point
        assert heights is not None, "heights are defined by a bias and a floor"
        assert shared is not None, "the shared point is defined by a bias"
        return float((heights @ shared).abs().mean())

    def coordinates(self, features: Tensor) -> Tensor:
        """Coordinates m (..., K) of features (..., D)."""
        m = features @ self.basis
        return m if self.ones is None else m + self.ones

    def features(self, m: Tensor) -> Tensor:
        """Features (..., D) at coordinates m (..., K)."""
        return m @ self.basis.T

    def probabilities(self, m: Tensor) -> Tensor:
        """Predicted probabilities (..., C) at coordinates m (..., K)."""
        return torch.softmax(m @ self.logit_map.T + self.offset, -1)

    def signals(self, m: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities and signals, both (..., C), at coordinates m (..., K) of images with `labels` (...)."""
        p = self.probabilities(m)
        return p, p - one_hot(labels, len(self.offset)).to(p)

    def embeddings(self) -> Tensor:
        """Class-wise embeddings (C, K): each row of the gradient, scaled to end in 1 where there is a bias.

        Row c is a sum of all images weighted by their signals, in which images of class c dominate (Ma et al. 2023).
        """
        rows = -self.left * self.singular_values
        if self.ones is None:
            return rows
        scale = rows @ self.ones
        size = scale.abs().clamp_min(1e-9 * float(scale.abs().max()))
        return rows / torch.where(scale < 0, -size, size)[:, None]

    def without(self, m: Tensor, labels: Tensor) -> Factors:
        """Factors of what is left after images at m (n, K) with `labels` (n,), 0 < n < K, are subtracted.

        The remainder is not white noise: the first singular value that should vanish measures it.
        """
        kept = self.images - len(labels)
        inside = self.signals(m, labels)[1] @ self.left
        left, values, right = torch.linalg.svd(self.singular_values.diag() - inside.T @ m)
        rotation = right[:kept].T
        return replace(
            self,
            left=self.left @ left[:, :kept],
            singular_values=values[:kept],
            basis=self.basis @ rotation,
            ones=None if self.ones is None else self.ones @ rotation,
            logit_map=self.logit_map @ rotation,
            noise=max(float(values[kept]) / len(self.offset) ** 0.5, self.noise),
        )


def most_separable(classes: int, dimension: int, *, bias: bool) -> int:
    """How many images' features a last layer of so many classes and features can separate at most."""
    # Signals sum to zero over the classes; without a bias, one more equation is missing.
    return max(0, min(classes - (1 if bias else 2), dimension - 1))


def check_capacity(layer: LastLayer, images: int) -> None:
    """Raise `CannotSeparate` where a last layer has too few classes or features for so many images."""
    classes, dimension = layer.weight.shape
    capacity = most_separable(classes, dimension, bias=layer.bias_gradient is not None)
    if images > capacity:
        raise CannotSeparate(
            f"{images} images share a last layer of {classes} classes and {dimension} features; at most "
            f"{capacity} can be separated: make the batch smaller."
        )


def factors_of(case: Case) -> Factors:
    """The factors of a case's last layer, made once and kept with the case. Raises `CannotSeparate`."""
    kept = case.derived.get(Factors.__name__)
    if kept is None:
        layer = LastLayer.of(case.model, case.gradient)
        kept = case.derived[Factors.__name__] = Factors.of(layer, case.update.batch_size)
    assert isinstance(kept, Factors), "this name is used here only"
    return kept


def truncated_svd(matrix: SummedGradient, rank: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Leading singular vectors and values of a matrix (C, D), exactly or by a randomised range finder.

    Returns U (C, rank), at least rank + 1 singular values where there are so many, V^T (rank, D), and the norm of each
    row (C,) of what the leading `rank` triples leave. Matrices whose full SVD would take long are projected on
    rank + `OVERSAMPLING` directions found by `POWER_ITERATIONS` power iterations (Halko et al. 2011, algorithm 4.4),
    all but the last in float32.
    """
    rows, columns = matrix.shape
    sketch = rank + OVERSAMPLING
    if min(rows, columns) * rows * columns <= FULL_SVD_OPERATIONS or 2 * sketch > min(rows, columns):
        u, values, vt = torch.linalg.svd(matrix.dense(), full_matrices=False)
    else:
        generator = torch.Generator().manual_seed(0)
        random = torch.randn(columns, sketch, generator=generator).to(matrix.weight_gradient.device)
        q = torch.linalg.qr(matrix.times(random))[0]
        for iteration in range(1, POWER_ITERATIONS + 1):
            if iteration == POWER_ITERATIONS:
                q = q.double()
            q = torch.linalg.qr(matrix.times(torch.linalg.qr(matrix.transposed_times(q))[0]))[0]
        left, values, vt = torch.linalg.svd(matrix.transposed_times(q).T, full_matrices=False)
        u = q @ left
    u, vt = u[:, :rank], vt[:rank]
    scaled = u * values[:rank]
    rest = torch.cat([(block - scaled[place] @ vt).norm(dim=1) for place, block in matrix.blocks()])
    return u, values, vt, rest


def largest_entries(matrix: SummedGradient) -> Tensor:
    """The largest absolute value (C,) of each row."""
    largest = torch.maximum(-matrix.weight_gradient.amin(1), matrix.weight_gradient.amax(1)).double()
    if matrix.bias_gradient is not None:
        largest = torch.maximum(largest, matrix.bias_gradient.double().abs())
    return largest * matrix.scale


def softmax_slopes(p: Tensor, logit_map: Tensor) -> Tensor:
    """Derivative dp / dm (..., C, K) of probabilities p (..., C) whose logits are `logit_map` (C, K) times m."""
    slopes: Tensor = p[..., None] * (logit_map - (p @ logit_map)[..., None, :])
    return slopes


def random_starts(factors: Factors, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Random starting points (T, n, K) of searches for n images of assumed `labels` (T, n).

    Every other set starts around the class-wise embeddings. The others start at random distances from the shared
    point in random orthogonal directions: features of different images are nearly orthogonal beyond their shared part.
    """
    embeddings, (tries, together) = factors.embeddings(), labels.shape

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(embeddings)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64).to(embeddings)

    spread = embeddings - embeddings.mean(0)
    amounts = uniform(tries, together, 1)
    near_embeddings = embeddings[labels] + (normal(tries, together, len(spread)) * amounts) @ spread
    ones, shared = factors.ones, factors.shared_point
    if ones is None or shared is None or factors.images < 2:
        return near_embeddings
    frames = torch.linalg.qr(normal(tries, factors.images, factors.images))[0][:, :together]
    frames = frames - (frames @ ones)[..., None] * shared
    sizes = 10 ** (-2 * uniform(tries, 1, 1))
    from_shared = shared + sizes * factors.images**0.5 * shared.norm() * frames
    odd = torch.arange(tries, device=labels.device) % 2 == 1
    return torch.where(odd[:, None, None], from_shared, near_embeddings)
