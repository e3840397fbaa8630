"""Joint training: all classes at once with all their labels. The ceiling."""

from __future__ import annotations

from methods.deeplab import DeepLabMethod
from methods.method import Info


class Joint(DeepLabMethod):
    key = "joint"
    info = Info("Joint training")
    trains_jointly = True
