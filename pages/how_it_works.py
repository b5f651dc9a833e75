"""How it works: why a gradient contains images, what the attacks do and need, and what helps against them."""

from ui import shell

shell.within_app()

from collections.abc import Callable

import streamlit as st

from ui.how_it_works import figures, sources
from ui.rendering import render
from ui.top_row import top_row

SECTIONS = {  # anchors, which other pages link to, and titles
    "shared": "What is shared",
    "holds-images": "Why a gradient contains images",
    "matching": "Gradient matching",
    "labels": "Label counts",
    "training": "Why training breaks label rules",
    "wrong-label": "One wrong label spoils the batch",
    "fusion": "Images of one class fuse",
    "separation": "Beyond the paper: feature separation",
    "simplex": "All images at once: simplex and independent components",
    "certificate": "Certified label counts",
    "pixels": "From features to exact pixels",
    "threat-model": "What the attacker must know",
    "networks": "Which networks leak less",
    "defences": "What defends",
    "questions": "Questions people ask",
    "sources": "Sources",
    "ethics": "Ethics",
}


def section(anchor: str, words: str, *pictured: Callable[[], None]) -> None:
    """A heading that can be linked to, text at the left, its figures at the right."""
    number = list(SECTIONS).index(anchor) + 1
    st.header(f"{number}. {SECTIONS[anchor]}", anchor=anchor, divider="gray")
    if not pictured:
        st.markdown(words)
        return
    left, right = st.columns([6, 5], gap="large")
    with left:
        st.markdown(words)
    with right:
        for draw in pictured:
            draw()


top_row().say("Why a shared gradient gives images away, what spoils the attack, and what helps against it.")
st.markdown("  ·  ".join(f"[{n} {title}](#{anchor})" for n, (anchor, title) in enumerate(SECTIONS.items(), 1)))

section(
    "shared",
    r"""
The server sends weights $\theta$. A client has images $x_1 \dots x_K$ with labels $y_1 \dots y_K$, and keeps them.

**FedSGD** shares the mean gradient of the batch:

$$
g = \frac1K \sum_k \nabla_\theta\, \ell(x_k, y_k; \theta)
$$

**FedAvg** trains $T$ local steps at rate $\eta$ and shares weights. Their change approximates a gradient
(McMahan et al. 2017; Geng et al. 2021):

$$
g \approx \frac{\theta_0 - \theta_T}{\eta\, T}
$$

More accurate: the gradient at a learned point between both weights (Zhu et al. 2023), or the local steps simulated and
differentiated through (Geiping et al. 2020; Dimitrov et al. 2022).
""",
    figures.shared,
)
section(
    "holds-images",
    r"""
Consider one linear layer $z = W x + b$, and write $\delta = \partial \ell / \partial z$. By the chain rule

$$
\frac{\partial \ell}{\partial W} = \delta\, x^\top, \qquad \frac{\partial \ell}{\partial b} = \delta .
$$

Row $c$ of the first divided by entry $c$ of the second is $x$, the layer's input, exactly (Phong et al. 2018).

For a batch the products are summed, and each row becomes a weighted sum of images:

$$
G = \frac1K \sum_k \delta_k\, x_k^\top
$$

So a gradient is not a summary in which images disappear. It is a sum of products in which each image is a factor.
Deeper layers have the same kind of sum over their own inputs.
""",
    figures.pixels,
)
section(
    "matching",
    r"""
Where division does not help, search for images whose gradient equals the shared one. Pixels are adjusted until their
gradient matches the shared one:

$$
\min_{\hat x}\; D\big(\nabla_\theta L(\hat x, \hat y),\, g\big) + \lambda\, R(\hat x)
$$

- $D$ is the squared distance (DLG, Zhu et al. 2019) or $1 - \cos$ (Geiping et al. 2020).
- $R$ prefers smooth images: total variation.
- $\hat y$ are the labels, inferred beforehand (next section).

The network is differentiated twice: once for the simulated gradient, once for the pixels. The squared distance between
simulated and shared update, relative to the squared norm of the shared one, is the **residual**. The attacker sees it;
PSNR is visible only to you.
""",
    figures.matching,
)
section(
    "labels",
    r"""
With cross-entropy, the gradient of an image's logits is its probabilities minus its one-hot label:

$$
\frac{\partial L}{\partial b} = \frac1K \sum_k (p_k - e_{y_k})
$$

Solved for the counts $n$ of each class, repeats included:

$$
n = K\,\bar p - K\, \frac{\partial L}{\partial b}
$$

Only the mean prediction $\bar p$ is unknown:

- **Zero-shot** (Geng et al. 2021): feed noise. An untrained network predicts about the same for noise as for images.
  Then round: take the largest remaining estimate $K$ times.
- **LLG** (Wainakh et al. 2021): subtract one label's typical impact at a time.
- **iLRG** (Ma et al. 2023): row $c$ of the gradient approximates the features of class $c$. The predictions $P$ for
  them give a linear system, $(P^\top - I)\, n = K\, \partial L / \partial b$.
- **iDLG** (sign, one image) and **GradInversion** (smallest entries) do not count repeats.
""",
    figures.counts,
)
section(
    "training",
    r"""
Every rule above estimates $\bar p$. That is easy as long as a network predicts the same for every input.

A trained network does not:

- its prediction on noise says nothing about the batch;
- for images that it has learnt, $p_k \approx e_{y_k}$: the signal $p_k - e_{y_k}$ becomes small, and misclassified
  images outweigh all others.

The equations themselves stay exact at any stage. Section 8 solves them instead of estimating. Its limit is rounding:
the better a network knows an image, the smaller the signal, until it is below single precision.
""",
    figures.training,
)
section(
    "wrong-label",
    r"""
The last layer's gradient combines each image's features $f_k$ with its label:

$$
\frac{\partial L}{\partial W_c} = \frac1K \sum_k (p_{k,c} - [y_k = c])\, f_k^\top
$$

In an untrained network all $p_{k,c}$ are small and similar. So row $c$ is mainly minus the sum of the features of the
images of class $c$.

Assume *dog* where *cat* is correct, and two rows do not fit. The shared row *cat* contains features that no assumed
image contributes; to row *dog* an assumed image contributes features that are not there. **The features of one image
must explain another's.** All images share the layers below, so the search distorts all of them to compensate, and the
whole batch is spoilt (found by Geng et al. 2021).

The residual gives the mistake away. *This project's own:* an attack whose residual stops falling certifies its labels
from the last layer (section 10), or tries the likeliest exchanges, and continues.
""",
    figures.wrong_label,
)
section(
    "fusion",
    r"""
Two images $i, j$ of one class enter row $c$ **only as a sum**, as long as the network predicts the same for both:

$$
\frac{\partial L}{\partial W_c} \approx -\frac1K (f_i + f_j)^\top + \dots
$$

Moving something from one image to the other leaves the sum, and nearly all of the residual, unchanged. Gradient
matching therefore returns blends of the class (found by Geng et al. 2021).

Only *nearly*: $p_i$ and $p_j$ differ a little. That small difference is all the information about the single images,
and it is enough. See the next section.
""",
    figures.fused,
)
section(
    "separation",
    r"""
*This project's own; closest relatives are SPEAR, for fully connected ReLU networks, and LT-code peeling.* Fusion is a
property of the search, not of the information. With signals $a_k = p_k - e_{y_k}$,
the gradient of the last layer's weights and bias is

$$
G = \sum_{k=1}^K a_k\,[f_k, 1]^\top = U S V^\top .
$$

$K$ images give rank $K$: the singular values count them. (Rounding is relative: rows are scaled to unit length before
$G$ is truncated to rank $K$, or images with small signals would be lost.) Every image lies in these spaces, with
unknown coordinates $m_k$ and $c_k$:

$$
[f_k, 1] = V m_k, \qquad a_k = U c_k .
$$

Inserted, the sum becomes $\sum_k c_k m_k^\top = S$. That makes the two sets **biorthogonal**:

$$
m_k^\top S^{-1} c_l = [k = l]
$$

And softmax relates one to the other: $a_k = \mathrm{softmax}(W f_k + b) - e_{y_k}$. So each image **by itself**
satisfies

$$
(I - UU^\top)\, a_k = 0, \quad (V m_k)_{\text{last}} = 1, \quad m_k^\top S^{-1} c_k = 1
$$

These are $C - K + 1$ independent equations ($C$ classes; signals sum to zero) in $K$ unknowns. For $2K \le C$ an
image is found by trying each class, **without knowing a single label** or anything about the other images.

Subtracting an image from $G$ leaves a simpler problem (deflation). The next section covers larger batches, up to
$K = C - 1$.
""",
    figures.separated,
)
section(
    "simplex",
    r"""
*This project's own.* Notation as in the last section. Activations have a lower bound: no feature is below $0$ after
ReLU, or below $-1$ after ELU. So every image lies in

$$
\{\, m : (V m)_d \ge \text{bound for every feature } d, \quad (V m)_{\text{last}} = 1 \,\}
$$

Thousands of features are thousands of bounds in $K - 1$ dimensions. Each image has other features at the bound, so it
is close to **a vertex of its own**; mixtures of images lie between the vertices.

The images are the $K$ points that span the largest volume: linear programs find them, **without any label**. Where the
bounds at a vertex meet in one point, as after ReLU, that point is the image up to rounding. With $M$ the matrix of the
$m_k$, labels are then read from the rows of $y$, which are one-hot if everything is correct:

$$
y_k = \mathrm{softmax}(W f_k + b) - a_k, \qquad a_k = \text{row } k \text{ of } M^{-\top} S\, U^\top
$$

**Where features only approach the bound**, as after ELU, bounds do not determine the vertices; but across thousands of
features the images are nearly independent (independent component analysis, as in the Cocktail Party Attack). With
heights $h_{kd} = (V m_k)_d - \text{bound}$ and each feature's mean height $\mu_d$, a gamma distribution of shape
$\alpha$ makes $M$ most likely where

$$
D \log|\det M| + \sum_{k,d} \Big[(\alpha - 1) \log h_{kd} - \alpha\, h_{kd} / \mu_d\Big]
$$

is largest: volume again, with soft bounds. It separates dozens of images in seconds, well enough to read their labels.

From there a search makes the rows one-hot. The lower bound, and an upper bound that rejects solutions with
unrealistically large features, limit the search. A label fixed too early spoils the batch here too: of dozens of
images, an image with an unclear label is left out until the others are explained. If the search ends close to the
solution, it hops: one to three images are drawn again or copied from another solution, or all are perturbed.

**As many images as classes, or more,** cannot be separated. After ReLU many can still be counted: a feature that only
one image activates gives a column of $G$ in the direction of $a_k$, and two such columns are parallel; columns of
mixtures are not.

For the others $\bar p$ is estimated. Whoever trains a network also validates it and knows its mean prediction for
images of class $c$: row $c$ of $Q$. Then

$$
K \frac{\partial L}{\partial b} = (Q^\top - I)\, n + \text{noise}
$$

is solved by Bayes' rule. Images that the network is certain of do not appear in it; for them the most likely counts are
assumed, equally many of each class. That limits what can be inferred from this equation.
""",
    figures.simplex,
)
section(
    "certificate",
    r"""
There are more equations than unknowns: wrong label counts have no solution. So a solution certifies its label counts.

- With the true counts the residual falls to rounding noise.
- With one label wrong it stays orders of magnitude above.

Each equation is weighted by its own rounding error: rows of classes that hardly occur are small, and as accurate as
others. They show the label of an image that the network is certain of and that contributes very little.

The strategy **Verified** says *certified* where it found such a solution, and only there. Where there are as many
images as classes, local steps in between, signals below rounding, or where the search takes too long, nothing is
certified, and it says *estimated*.

Certificates hold within the equations: a manipulated update can mislead. Features outside the bounds of their
activation certify nothing, however well they fit. LT-code peeling certifies single images in fully connected
networks; here label counts are certified, whatever network computes the features.
""",
    figures.certificate,
)
section(
    "pixels",
    r"""
The features and the signal of every image are now known. The layers below are solved one after the other. A
convolution's gradient

$$
G_l[o,c,u,v] = \sum_k \sum_{i,j} \delta_k[o,i,j]\; h_k[c,\, si{+}u{-}p,\, sj{+}v{-}p]
$$

is **linear in its inputs** $h_k$ once the signals $\delta_k$ are known: least squares instead of a search. The
signals are then propagated through the layer, and the next one is solved (peeling). R-GAP and R-CONV do this for one
image; here the images were separated before.

Where a layer has more unknowns than equations, the Levenberg-Marquardt method finds the pixels for the known values,
image by image. If the update is then not fully matched, it is matched as a whole until no pixel changes.

**Limits:** fewer images than classes, one gradient without noise, a sequence of convolutions, small images.
""",
    figures.exact,
)
section(
    "threat-model",
    """
The server is **honest but curious**: it follows the protocol and keeps what it receives. Nothing is manipulated.

| the server knows | it does not know |
| --- | --- |
| the architecture and the weights it sent | the images |
| one client's own update, unrounded | the labels |
| the batch size, which servers use as a weight | which image has which label |
| FedAvg: local rate, number of steps, batch size of a step | the order of the images |
| the pixel range and normalisation | BatchNorm statistics of the batch |

The private images are used to compute the PSNR that you see and for nothing else. A *malicious* server, which sends
crafted weights, can do far more (Fowl et al. 2022). It is not shown here.
""",
)
section(
    "networks",
    """
One attack, the same four images, many networks.

- **ELU, strides, no BatchNorm** leak most: each pixel changes many numbers of the update, and smoothly.
- **ReLU** switches units off: their inputs do not appear in the gradient. **Sigmoid** is smooth but flat: the search
  makes little progress.
- **Max-pooling** drops all but the largest of its inputs; **global average pooling** leaves few features.
- **Depth and BatchNorm** add local minima to the search.
- **Training** has a large effect: for images that a network has learnt, the gradient is small.

None of this is a defence. It makes a search harder and guarantees nothing.
""",
    figures.networks,
)
section(
    "defences",
    """
- **Noise** hides the smallest differences first, those between images of one class.
- **DP-SGD** (Abadi et al. 2016) clips each image's gradient, then adds noise. It is the only one of these with a
  guarantee: it bounds what any attack can learn, at the cost of accuracy.
- **Pruning and quantisation** discard information, without a guarantee. Attackers who know of them adapt
  (Huang et al. 2021; Balunović et al. 2022).
- **Larger batches** have more unknowns for the same numbers, and with as many images as classes nothing is certified
  (section 10). How large is enough is an open question: attacks on wide linear layers have separated batches of
  hundreds of images (Kariyappa et al. 2022; Bakarsky et al. 2025).
- **More local steps** make the update a worse approximation of a gradient. Simulating the steps undoes much of that
  (Dimitrov et al. 2022).
- **Secure aggregation** (Bonawitz et al. 2017) shows the server only a sum over clients: one large batch. It does
  not help against a server that sends clients different weights (Pasquini et al. 2022).

The figures show batch size, local steps and plain noise, for one attack that does not adapt. DP-SGD, pruning and
secure aggregation are reported from the literature, not measured on this page. Surveys find that attacks in practice
are constrained, fragile and easily defended against (SoK 2024; FEDLAD 2024): that is no guarantee for a particular
system.
""",
    figures.larger,
    figures.noise,
)
section(
    "questions",
    """
**Only noise comes back. Which setting is wrong?** Look at the residual. If it is small, the network hides the images
(ReLU, pooling, BatchNorm); if it is large, the search has not converged or the labels are wrong. Start with LeNet-64
(ELU), four images and inferred labels.

**How are images paired for PSNR when labels repeat?** By the assignment that gives the lowest total squared error, over
all images, whatever their labels.

**Does a PSNR below 10 dB mean that nothing leaks?** No. Random noise scores about 8 dB and a flat grey image about 13;
both show nothing. A blurred reconstruction can still show what is in the image, and labels leak separately.

**Is it safe to share only the last layer?** No. Its gradient alone holds the label counts and the separated features of
the images (sections 4, 8 and 10).

**Can the batch be larger than the number of classes?** Gradient matching works then, feature separation does not.

**BatchNorm in train or eval mode?** In train mode the gradient depends on statistics of the batch, which the server
does not know; the attack then assumes the statistics of its own candidates.
""",
)
section("sources", sources.table())
section(
    "ethics",
    """
DeepLeak is made **for defence and teaching**: to show what an update gives away, before somebody relies on it.

- Attack only **your own data**, or data whose owners agreed.
- A reconstructed image is personal data if the original was. Treat it as such.
- The networks here are small, and leak more than most in use. A clear reconstruction here does not mean that every
  system leaks; a blurred one does not mean that yours is safe.
- Anyone running federated learning should ask for a guarantee, differential privacy above all, not for an attack that
  failed.
""",
)
st.caption(figures.machine())
st.html(render("scroll_to_section.html"), unsafe_allow_javascript=True)
