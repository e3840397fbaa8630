"""Fine-tuning: the loss on the new labels alone. The floor."""

from __future__ import annotations

from methods.deeplab import DeepLabMethod
from methods.mask2former import Mask2FormerMethod
from methods.method import Info
from methods.segvit import SegViTMethod
from protocols.protocol import TASKS


class FineTune(DeepLabMethod):
    key = "finetune"
    info = Info("Fine-tuning")


class FineTuneMask2Former(Mask2FormerMethod):
    key = "finetune@mask2former"
    info = Info("Fine-tuning", tasks=TASKS)


class FineTuneSegViT(SegViTMethod):
    key = "finetune@segvit"
    info = Info("Fine-tuning")
