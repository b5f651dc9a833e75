"""How it works: why a gradient holds images, what the attacks do, what they need, and what helps against them."""

from ui import shell

shell.within_app()


from collections.abc import Callable

import streamlit as st

from ui import figures, markup, sources

SECTIONS = {  # anchors, which other pages link to, and titles
    "shared": "What is shared",
    "holds-images": "Why a gradient holds images",
    "matching": "Gradient matching",
    "labels": "Label counts",
    "training": "Why training breaks label rules",
    "wrong-label": "One wrong label spoils the batch",
    "fusion": "Images of one class fuse",
    "beyond": "Beyond the paper: taking the batch apart",
    "corners": "All at once: corners and voices",
    "proof": "Label counts that prove themselves",
    "pixels": "From features to exact pixels",
    "threat-model": "What the attacker must know",
    "networks": "Which networks leak less",
    "defences": "What defends",
    "sources": "Sources: whose idea is whose",
    "ethics": "Ethics",
}


def section(anchor: str, words: str, *pictured: Callable[[], None]) -> None:
    """A heading that can be linked to, words at the left, what they speak of at the right."""
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


st.html(markup.headline("Why a shared gradient gives images away, what spoils the attack, and what helps against it."))
st.markdown("  ·  ".join(f"[{n} {title}](#{anchor})" for n, (anchor, title) in enumerate(SECTIONS.items(), 1)))

section(
    "shared",
    r"""
The server sends weights $\theta$. A client has images $x_1 \dots x_K$ with labels $y_1 \dots y_K$, and keeps them.

**FedSGD** shares the mean gradient of the batch:

$$
g = \frac1K \sum_k \nabla_\theta\, \ell(x_k, y_k; \theta)
$$

**FedAvg** trains $T$ local steps at rate $\eta$ and shares weights. Their change stands for a gradient
(McMahan et al. 2017; Geng et al. 2021):

$$
g \approx \frac{\theta_0 - \theta_T}{\eta\, T}
$$

Closer still: the gradient at a learned point between both weights (Zhu et al. 2023), or the local steps simulated
and differentiated through (Geiping et al. 2020; Dimitrov et al. 2022).
""",
    figures.shared,
)
section(
    "holds-images",
    r"""
Take one linear layer $z = W x + b$, and write $\delta = \partial \ell / \partial z$. By the chain rule

$$
\frac{\partial \ell}{\partial W} = \delta\, x^\top, \qquad \frac{\partial \ell}{\partial b} = \delta .
$$

Divide row $c$ of the one by entry $c$ of the other: what is left is $x$, the layer's input, exactly
(Phong et al. 2018).

For a batch the products add up, and each row becomes a weighted sum of images:

$$
G = \frac1K \sum_k \delta_k\, x_k^\top
$$

So a gradient is no summary in which images disappear. It is a sum of products in which each image is a factor.
Deeper layers hold the same kind of sum over their own inputs.
""",
    figures.pixels,
)
section(
    "matching",
    r"""
Where no division helps, search: find images whose gradient equals the shared one.

$$
\min_{\hat x}\; D\big(\nabla_\theta L(\hat x, \hat y),\, g\big) + \lambda\, R(\hat x)
$$

- $D$ is the squared distance (DLG, Zhu et al. 2019) or $1 - \cos$ (Geiping et al. 2020).
- $R$ prefers smooth pictures: total variation.
- $\hat y$ are the labels, inferred beforehand (next section).

The network is differentiated twice: once for the simulated gradient, once for the pixels. How far the simulated update
still is from the shared one, squared and relative to it, is the **residual**. The attacker sees it, PSNR only you do.
""",
    figures.matching,
)
section(
    "labels",
    r"""
With cross-entropy, an image pulls at its logits by its probabilities minus its one-hot label:

$$
\frac{\partial L}{\partial b} = \frac1K \sum_k (p_k - e_{y_k})
$$

Solved for the counts $n$ of each class, repeats included:

$$
n = K\,\bar p - K\, \frac{\partial L}{\partial b}
$$

Only the mean prediction $\bar p$ is unknown:

- **Zero-shot** (Geng et al. 2021): feed noise. An untrained network predicts much the same for noise as for images.
  Then make integers: take the largest remaining estimate $K$ times.
- **LLG** (Wainakh et al. 2021): take one label's typical impact off at a time.
- **iLRG** (Ma et al. 2023): row $c$ of the gradient shows what class $c$ looks like to the last layer. Its predictions
  $P$ give a linear system, $(P^\top - I)\, n = K\, \partial L / \partial b$.
- **iDLG** (sign, one image) and **GradInversion** (smallest entries) do not count repeats.
""",
    figures.counts,
)
section(
    "training",
    r"""
Every rule above guesses $\bar p$. That is easy as long as a network predicts the same for everything.

A trained network does not:

- for noise it has an opinion of its own, which says nothing about the batch;
- for images it knows, $p_k \approx e_{y_k}$: the signal $p_k - e_{y_k}$ fades, and images it gets wrong
  outweigh all others.

What remains exact at any stage are the equations themselves. Section 8 solves them instead of guessing. Its one enemy
is rounding: the better a network knows an image, the fainter the signal, until single precision swallows it.
""",
    figures.training,
)
section(
    "wrong-label",
    r"""
The last layer's gradient ties each image's features $f_k$ to its label:

$$
\frac{\partial L}{\partial W_c} = \frac1K \sum_k (p_{k,c} - [y_k = c])\, f_k^\top
$$

In an untrained network all $p_{k,c}$ are small and alike. So row $c$ is, in the main, minus the features of the images
of class $c$.

Believe *dog* where *cat* is right, and two rows go wrong. The shared row *cat* holds features that no assumed image
can send; into row *dog* an assumed image sends features that were never there. **The features of one image must
explain another's.** All images share the layers below, so the search bends all of them to make up for it, and the
whole batch is spoilt (found by Geng et al. 2021).

The residual gives the mistake away. *This project's own:* an attack whose residual is stuck asks the last layer which
labels it proves (section 10), or tries the likeliest exchanges, and goes on.
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

Move something from one to the other: the sum, and with it nearly all of the residual, stays as it is. A search has no
reason to tell them apart and returns blends of the class (found by Geng et al. 2021).

Only *nearly*: $p_i$ and $p_j$ differ a little. That small difference is all that is left of the single images, and it
is enough. See the next section.
""",
    figures.fused,
)
section(
    "beyond",
    r"""
*This project's own.* Fusion is a property of the search, not of the information. With signals $a_k = p_k - e_{y_k}$,
weights and bias of the last layer share

$$
G = \sum_{k=1}^K a_k\,[f_k, 1]^\top = U S V^\top .
$$

$K$ images make rank $K$: the singular values count them. (Rounding is relative: $G$ is first cut to rank $K$ with each
row in units of its own length, or faint images would drown.) Every image lies in these spaces, with unknown
coordinates $m_k$ and $c_k$:

$$
[f_k, 1] = V m_k, \qquad a_k = U c_k .
$$

Put in, the sum becomes $\sum_k c_k m_k^\top = S$. That makes the two sets **biorthogonal**:

$$
m_k^\top S^{-1} c_l = [k = l]
$$

And softmax ties one to the other: $a_k = \mathrm{softmax}(W f_k + b) - e_{y_k}$. So each image **on its own** satisfies

$$
(I - UU^\top)\, a_k = 0, \quad (V m_k)_{\text{last}} = 1, \quad m_k^\top S^{-1} c_k = 1
$$

These are $C - K + 1$ independent equations ($C$ classes; signals sum to zero) in $K$ unknowns. For $2K \le C$ an
image is found by trying each class, **without knowing a single label** or anything of the other images.

Take what was found off $G$, and a simpler problem is left: deflation. The next section is for larger batches, up to
$K = C - 1$.
""",
    figures.separated,
)
section(
    "corners",
    r"""
*This project's own.* In the terms of the last section. Activations have a floor: no feature is below $0$ after ReLU,
or below $-1$ after ELU. So every image lies in

$$
\{\, m : (V m)_d \ge \text{floor for every feature } d, \quad (V m)_{\text{last}} = 1 \,\}
$$

Thousands of features are thousands of walls, around $K - 1$ dimensions. Each image leaves other features at the floor,
so it stands **in a corner of its own**; mixtures of images lie between them.

The images are the $K$ points that span the most volume: linear programs find them, **with no label guessed**. Where
the walls of a corner meet in one point, as after ReLU, that point is the image, to rounding. With $M$
the matrix of the $m_k$, labels are then read off, one-hot rows if all is right:

$$
y_k = \mathrm{softmax}(W f_k + b) - a_k, \qquad a_k = \text{row } k \text{ of } M^{-\top} S\, U^\top
$$

**Where features only come near the floor**, as after ELU, walls say too little; but across thousands of features
images are independent, like voices in a room. With heights $h_{kd} = (V m_k)_d - \text{floor}$ and each feature's mean
height $\mu_d$, a gamma distribution of shape $\alpha$ makes $M$ most likely where

$$
D \log|\det M| + \sum_{k,d} \Big[(\alpha - 1) \log h_{kd} - \alpha\, h_{kd} / \mu_d\Big]
$$

is largest: volume again, with soft walls. It tells dozens of images apart in seconds, well enough to read their labels.

From there a search makes the rows one-hot. The floor keeps it to what features can be, and so does a ceiling: no image
is many times as bright as the others. A label assumed too early spoils the batch here too: of dozens of images, one
that reads unclearly is left out until the others are explained. If the search ends just beside the truth, it hops: one
to three images are drawn anew or taken over from another solution, or all are moved a little.

**As many images as classes, or more,** cannot be taken apart. After ReLU many can still be counted: a feature that
one image alone lights up makes a column of $G$ with the direction of $a_k$, and two such columns are parallel, as
mixtures are not.

For the rest $\bar p$ is estimated. Whoever trains a network also validates it, and so knows what it predicts on average
for images of class $c$: row $c$ of $Q$. Then

$$
K \frac{\partial L}{\partial b} = (Q^\top - I)\, n + \text{noise}
$$

is solved by Bayes' rule. Images the network is sure of leave no trace in it: for them the most likely is assumed, as
many of each class. That bounds what anyone can tell from this equation.
""",
    figures.corners,
)
section(
    "proof",
    r"""
More equations than unknowns: for wrong label counts there is nothing that solves them. So a solution is its own proof.

- With the right counts the residual falls to rounding noise.
- With one label wrong it stays orders of magnitude above.

Each equation counts in units of its own rounding: rows of classes that hardly occur are small, and as exact as others.
They show the label of an image that the network is sure of and that leaves next to nothing.

The strategy **Verified** says *proven* where it found such a solution, nowhere else; no prediction was guessed then.
Where there are as many images as classes, or local steps in between, or signals below rounding, or where the search
takes too long, nothing is proven, and it says *estimated*.

Proven within the equations: an update that was altered can mislead. Features below the floor of their activation prove
nothing, however well they fit.
""",
    figures.proof,
)
section(
    "pixels",
    r"""
The features and the signal of every image are now known. Go down layer by layer. A convolution's gradient

$$
G_l[o,c,u,v] = \sum_k \sum_{i,j} \delta_k[o,i,j]\; h_k[c,\, si{+}u{-}p,\, sj{+}v{-}p]
$$

is **linear in its inputs** $h_k$ once the signals $\delta_k$ are known: least squares, not search. Then the signals
pass through the layer, and the next one is peeled off. R-GAP does so for one image; here the batch was taken apart
before.

Where a layer has more unknowns than equations, Levenberg-Marquardt finds the pixels behind what is known, image by
image. If the update is not fully explained then, it is matched as a whole until no pixel changes.

**Limits:** fewer images than classes, one gradient without noise, a plain chain of convolutions, small images.
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

The truth is used to show you PSNR and for nothing else; a test shuffles it and sees no picture change. A *malicious*
server, which sends crafted weights, can do far more (Fowl et al. 2022). It is not shown here.
""",
)
section(
    "networks",
    """
One attack, the same four images, many networks.

- **ELU, strides, no BatchNorm** leak most: each pixel moves many numbers of the update, and smoothly.
- **ReLU** shuts units off: what went through them is lost to the gradient. **Sigmoid** is smooth, but flat: the search
  hardly moves.
- **Max-pooling** drops all but the largest of its inputs; **global average pooling** leaves few features.
- **Depth and BatchNorm** make the search rugged.
- **Training** changes much: on images that a network has learnt, the gradient fades.

None of this is a defence. It makes a search harder; it promises nothing.
""",
    figures.networks,
)
section(
    "defences",
    """
- **Noise** drowns the finest differences first, those that tell images of one class apart.
- **DP-SGD** (Abadi et al. 2016) clips each image's gradient, then adds noise. It is the only one of these with a
  guarantee: it bounds what any attack can learn. The price is accuracy.
- **Pruning and quantisation** throw numbers away, without a guarantee. Attackers who know of it adapt
  (Huang et al. 2021; Balunović et al. 2022).
- **Larger batches** put more unknowns behind the same numbers, and from as many images as classes on nothing is proven
  (section 10). How large is enough is an open question: attacks on wide linear layers have separated batches of
  hundreds of images (Kariyappa et al. 2022; Bakarsky et al. 2025).
- **More local steps** blur the update. Simulating them takes much of that back (Dimitrov et al. 2022).
- **Secure aggregation** (Bonawitz et al. 2017) shows the server only a sum over clients: one large batch. It does
  not help against a server that sends clients different weights (Pasquini et al. 2022).

The figures show batch size, local steps and plain noise, for one attack that does not adapt. DP-SGD, pruning and
secure aggregation are reported from the literature, not measured on this page.
""",
    figures.larger,
    figures.noise,
)
section("sources", sources.table())
section(
    "ethics",
    """
DeepLeak is made **for defence and teaching**: to show what an update gives away, before somebody relies on it.

- Attack only **your own data**, or data whose owners agreed. The same holds for photos you bring along.
- A rebuilt picture is personal data if the original was. Treat it as such.
- The networks here are small, and leak more than most in use. A clear picture here does not mean that every system
  leaks; a blurred one does not mean that yours is safe.
- Who runs federated learning should ask for a guarantee, differential privacy above all, not for an attack that failed.
""",
)
st.caption(figures.machine())
st.html(markup.find_section(), unsafe_allow_javascript=True)
