"""What contrastive models miss: word order and binding, priors of language, and groups that the mean hides.

Yuksekgonul et al. 2023 (ARO and NegCLIP, arXiv 2210.01936), Lin et al. 2024 (VisualGPTScore, arXiv 2306.01879), Sagawa
et al. 2020 (worst groups, arXiv 1911.08731); derived in lesson 10.
"""

from minilip.compositionality.captions import (
    PROBES,
    Probe,
    attribute_probe,
    exchange,
    order_probe,
    relation_probe,
    replaced_probe,
)
from minilip.compositionality.groups import (
    group_accuracy,
    group_weights,
    worst_group,
    worst_group_interval,
)
from minilip.compositionality.negatives import NegCLIP, hard_captions, indistinct_floor, negclip_loss
from minilip.compositionality.scoring import (
    log_prior,
    probe_accuracy,
    probe_hits,
    probe_scores,
    visual_gpt_score,
)

__all__ = [
    "PROBES",
    "NegCLIP",
    "Probe",
    "attribute_probe",
    "exchange",
    "group_accuracy",
    "group_weights",
    "hard_captions",
    "indistinct_floor",
    "log_prior",
    "negclip_loss",
    "order_probe",
    "probe_accuracy",
    "probe_hits",
    "probe_scores",
    "relation_probe",
    "replaced_probe",
    "visual_gpt_score",
    "worst_group",
    "worst_group_interval",
]
