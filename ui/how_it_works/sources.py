"""The sources of the methods in DeepLeak, as one table."""

from __future__ import annotations

# A method, and its authors with the address of their paper; none where it is this project's own.
SOURCES: tuple[tuple[str, dict[str, str]], ...] = (
    ("federated learning, FedSGD and FedAvg", {"McMahan et al. 2017": "https://arxiv.org/abs/1602.05629"}),
    ("a linear layer's gradient holds its input", {"Phong et al. 2018": "https://eprint.iacr.org/2017/715"}),
    ("gradient matching, DLG", {"Zhu, Liu and Han 2019": "https://arxiv.org/abs/1906.08935"}),
    ("labels by sign, iDLG", {"Zhao et al. 2020": "https://arxiv.org/abs/2001.02610"}),
    (
        "cosine distance, total variation, Inverting Gradients",
        {"Geiping et al. 2020": "https://arxiv.org/abs/2003.14053"},
    ),
    (
        "BatchNorm statistics, column minima, several starts, GradInversion",
        {"Yin et al. 2021": "https://arxiv.org/abs/2104.07586"},
    ),
    ("label impact and offset, LLG", {"Wainakh et al. 2021": "https://arxiv.org/abs/2105.09369"}),
    (
        "**the two findings**; zero-shot label counts; weights as gradients",
        {"Geng et al. 2021": "https://arxiv.org/abs/2110.09074"},
    ),
    ("class-wise embeddings, iLRG", {"Ma et al., ICLR 2023": "https://openreview.net/forum?id=FIrQfNSOoTr"}),
    ("FedAvg: differentiating through local steps", {"Dimitrov et al. 2022": "https://arxiv.org/abs/2206.12395"}),
    ("FedAvg: surrogate model between the weights", {"Zhu et al., ICML 2023": "https://arxiv.org/abs/2306.00127"}),
    (
        "one image, layer after layer in closed form, R-GAP",
        {"Zhu and Blaschko, ICLR 2021": "https://arxiv.org/abs/2010.07733"},
    ),
    (
        "a linear layer's rows separated by independence, Cocktail Party Attack",
        {"Kariyappa et al. 2022, ICML 2023": "https://arxiv.org/abs/2209.05578"},
    ),
    (
        "independent components by maximum likelihood",
        {
            "Pham and Garat 1997": "https://doi.org/10.1109/78.599941",
            "Cardoso 1997": "https://doi.org/10.1109/97.566704",
        },
    ),
    (
        "exact batches: low rank resolved by ReLU sparsity, SPEAR",
        {"Dimitrov et al. 2024": "https://arxiv.org/abs/2403.03945"},
    ),
    (
        "exact images and labels through MLPs, certified without ground truth, LT-code peeling",
        {"Shariati and Meybodi 2026": "https://github.com/SaeedShariati/Gradient-Inversion-via-LT-Codes"},
    ),
    ("features from the head's gradient, then inverted, Maui", {"2025": "https://arxiv.org/abs/2509.11451"}),
    (
        "layer after layer through convolutions, R-CONV and R-CONV++",
        {"2024": "https://arxiv.org/abs/2406.04227", "2025": "https://arxiv.org/abs/2509.18871"},
    ),
    ("the same by dictionary learning, SPEAR++", {"Bakarsky et al. 2025": "https://arxiv.org/abs/2510.24200"}),
    (
        "certificates that a region holds a single record, VGIA",
        {"Diana et al. 2026": "https://arxiv.org/abs/2604.15063"},
    ),
    (
        "mixtures separated by the largest simplex, and by pure samples, in remote sensing",
        {
            "Winter 1999": "https://doi.org/10.1117/12.366289",
            "Boardman 1993": "https://ntrs.nasa.gov/citations/19950017428",
        },
    ),
    (
        "counts from what a classifier predicts for each class",
        {"Forman 2008": "https://doi.org/10.1007/s10618-008-0097-y"},
    ),
    (
        "search by hops between neighbouring solutions (basin hopping, genetic algorithms)",
        {
            "Wales and Doye 1997": "https://arxiv.org/abs/cond-mat/9803344",
            "Deaven and Ho 1995": "https://doi.org/10.1103/PhysRevLett.75.288",
        },
    ),
    ("defences: DP-SGD", {"Abadi et al. 2016": "https://arxiv.org/abs/1607.00133"}),
    (
        "defences: secure aggregation, and around it",
        {
            "Bonawitz et al. 2017": "https://eprint.iacr.org/2017/281",
            "Pasquini et al. 2022": "https://arxiv.org/abs/2111.07380",
        },
    ),
    (
        "defences evaluated, and broken",
        {
            "Huang et al. 2021": "https://arxiv.org/abs/2112.00059",
            "Balunović et al. 2022": "https://arxiv.org/abs/2111.04706",
        },
    ),
    (
        "attacks in practice: constrained, fragile, easily defended",
        {"SoK 2024": "https://arxiv.org/abs/2404.05403", "FEDLAD 2024": "https://arxiv.org/abs/2411.03019"},
    ),
    ("malicious servers", {"Fowl et al. 2022": "https://arxiv.org/abs/2110.13057"}),
    ("wrong labels detected by the residual and corrected during the attack", {}),
    ("feature separation by low rank and softmax, without labels; certified label counts, through convolutions", {}),
    ("batches solved layer by layer to exact pixels after separation", {}),
    ("features of a batch as vertices of the activation bounds; images counted by features that are theirs alone", {}),
    ("features of a batch as independent components with a floor and gamma-distributed values above it", {}),
)


def table() -> str:
    """The sources as a Markdown table."""
    rows = [
        f"| {idea} | {', '.join(f'[{who}]({link})' for who, link in whose.items()) or 'this project'} |"
        for idea, whose in SOURCES
    ]
    note = "To our knowledge. If you know an earlier source, please tell us."
    return "\n".join(["| method | source |", "| --- | --- |", *rows, "", note])
