"""Places where the original program is wrong and ours is right; each can be switched back."""

from dataclasses import dataclass

from detector.config import RULES, RegionRules


@dataclass(frozen=True, slots=True, kw_only=True)
class Compat:
    """False is ours, True repeats the original (microsoft/scene_graph_benchmark)."""

    filter2_takes_wrong_boxes: bool = False
    """Filter 2 with per-class regression. Original (`box_head/inference.py:filter_results_fast`):
    the number of a kept proposal is looked up in the table of all boxes of all classes, so box k
    is that of proposal floor(k / C), class k mod C, and attributes are pooled there. Ours: the
    box of the region's own proposal and class. Scores, classes, features and order are equal."""

    attribute_cap_counts_zeros: bool = False
    """Most attributes of one image. Original (`attribute_head/inference.py`): the cut is ranked
    among all entries, those already set to 0 included, so it hardly ever cuts, and then leaves
    too many. Ours: the best `max_attributes_per_image` entries stay, neither more nor fewer."""


PUBLISHED = Compat(filter2_takes_wrong_boxes=True, attribute_cap_counts_zeros=True)
"""Every quirk of the original."""


def quirks_of(rules: RegionRules) -> Compat:
    """All quirks where the original's own settings are repeated (`vinvl_readme`), else none."""
    return PUBLISHED if rules == RULES["vinvl_readme"] else Compat()
