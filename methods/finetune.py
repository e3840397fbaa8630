"""Fine-tuning: cross-entropy on the new labels alone. The floor."""

from __future__ import annotations

from methods.deeplab import DeepLabMethod
from methods.method import Info


class FineTune(DeepLabMethod):
    key = "finetune"
    info = Info("Fine-tuning")
