"""Joint training: all classes at once with all their labels. The ceiling."""

from __future__ import annotations

from methods.deeplab import DeepLabMethod
from methods.mask2former import Mask2FormerMethod
from methods.method import Info
from protocols.protocol import TASKS


class Joint(DeepLabMethod):
    key = "joint"
    info = Info("Joint training")
    trains_jointly = True


class JointMask2Former(Mask2FormerMethod):
    key = "joint@mask2former"
    info = Info("Joint training", tasks=TASKS)
    trains_jointly = True
