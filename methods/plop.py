"""PLOP: "PLOP: Learning without Forgetting for Continual Semantic Segmentation", CVPR 2021."""

from __future__ import annotations

import dataclasses

from methods.local_pod import LocalPODMethod
from methods.method import Info
from protocols.protocol import Protocol


class PLOP(LocalPODMethod):
    key = "plop"
    info = Info(
        "PLOP",
        venue="CVPR",
        year=2021,
        provenance="port of arthurdouillard/CVPR2021_PLOP@4b4a060",
        url="https://arxiv.org/abs/2011.11390",
    )


class PLOPFixed(PLOP):
    """PLOP with thresholds as the paper describes them: medians of the entropy."""

    key = "plop-fixed"
    info = dataclasses.replace(PLOP.info, title="PLOP, thresholds repaired")

    @classmethod
    def default_hyperparameters(cls, protocol: Protocol, scale: str) -> PLOP.Hyperparameters:
        published = super().default_hyperparameters(protocol, scale)
        return dataclasses.replace(published, averaged_entropy=False, true_medians=True)
