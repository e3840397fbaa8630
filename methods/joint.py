"""Joint training: all classes at once with all their labels. The ceiling."""

from __future__ import annotations

from dataclasses import replace

from methods.deeplab import DeepLabMethod
from methods.mask2former import Mask2FormerMethod
from methods.mask2former_recipe import Mask2FormerRecipe
from methods.method import Info
from methods.segvit import SegViTMethod
from methods.segvit_recipe import SegViTRecipe
from protocols.protocol import TASKS, Protocol


class Joint(DeepLabMethod):
    key = "joint"
    info = Info("Joint training")
    trains_jointly = True


class JointMask2Former(Mask2FormerMethod):
    """Trained as long as a first step at paper scale; at mini scale about as long as all steps together."""

    key = "joint@mask2former"
    info = Info("Joint training", tasks=TASKS)
    trains_jointly = True

    @classmethod
    def default_recipe(cls, protocol: Protocol, scale: str) -> Mask2FormerRecipe:
        recipe = super().default_recipe(protocol, scale)
        return recipe if scale == "paper" else replace(recipe, iterations=1400)


class JointSegViT(SegViTMethod):
    """Trained for longer than a first step: as long as SegViT at paper scale, by our choice at mini scale."""

    key = "joint@segvit"
    info = Info("Joint training")
    trains_jointly = True

    @classmethod
    def default_recipe(cls, protocol: Protocol, scale: str) -> SegViTRecipe:
        iterations = {"paper": 160_000, "mini": 1000}[scale]
        return replace(super().default_recipe(protocol, scale), iterations=iterations)
