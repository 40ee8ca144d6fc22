"""What others published on these two sets, in percent, copied from their papers and not measured here."""

from __future__ import annotations

# (model, P@20, MRR@20) of each data set.
PUBLISHED = {
    "tmall": (
        ("SR-GNN (2019)", 27.57, 13.72),
        ("GCE-GNN (2020)", 33.42, 15.42),
        ("MTAW (2023)", 37.17, 19.14),
        ("SPARE (2023)", 39.28, 20.07),
        ("RESTC (2023)", 42.47, 18.52),
        ("GraphFine (2026)", 48.48, 21.45),
    ),
    "retailrocket": (
        ("SR-GNN (2019)", 50.32, 26.57),
        ("GCE-GNN (2020)", 53.63, 28.01),
        ("DSAN (2021)", 56.63, 30.71),
        ("MTAW (2023)", 56.39, 30.52),
        ("SPARE (2023)", 56.91, 30.22),
        ("RESTC (2023)", 57.81, 30.82),
        ("GraphFine (2026)", 58.85, 31.17),
    ),
}
