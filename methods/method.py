"""The interface of a continual segmentation method: five hooks, everything else is inherited."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from methods.predictions import InstancePrediction, PanopticPrediction
from methods.recipe import Recipe
from protocols.loading import Batch, StepData
from protocols.protocol import Protocol, Step
from protocols.transforms import IMAGENET, PixelStatistics


@dataclass(frozen=True)
class Info:
    """What a method says of itself; shown by `ls methods` and in every table."""

    title: str
    venue: str = ""
    year: int = 0
    provenance: str = "baseline"
    """"port of REPO@commit", "paper only" or "baseline"."""
    url: str = ""
    tasks: tuple[str, ...] = ("semantic",)
    replay: bool = False


@dataclass(frozen=True)
class NoHyperparameters:
    """For methods without any."""


class UnsuitableRecipe(ValueError):
    """A method cannot follow the recipe; `--methods all` leaves it out then."""


class Method(ABC):
    """Subclass, name it by `key`, describe it by `info`, and fill in the hooks.

    The runner calls, for each step: `begin_step`, `training_loss` once an iteration, `end_step`, then
    `predict` over the test images. Nothing else is known about a method outside its file. Randomness must
    come from torch: its state is part of a checkpoint, that of other generators is not.
    """

    key: ClassVar[str]
    info: ClassVar[Info]
    Hyperparameters: ClassVar[type] = NoHyperparameters
    """A frozen dataclass; each default cites its source."""

    trains_jointly: ClassVar[bool] = False
    """Whether all steps are learnt at once: the upper bound, not a continual method."""

    first_step: ClassVar[str] = ""
    """Names how the first step is trained. Methods with the same name share its weights in the store.

    Empty: not shared. A subclass that overrides a hook which takes part in the first step is not shared
    either, unless it sets a name of its own: so a shared first step is always a deliberate claim.
    """
    first_step_hyperparameters: ClassVar[tuple[str, ...]] = ()
    """Those on which a named first step depends; whatever else is set, its weights are found in the store."""
    _FIRST_STEP_HOOKS: ClassVar[tuple[str, ...]] = (
        "__init__",
        "build",
        "begin_step",
        "training_data",
        "training_loss",
        "first_step_loss",
        "predict",
        "predict_image",
        "end_step",
        "tensors",
        "restore",
        "parameter_groups",
        # Of the families' bases.
        "make_network",
        "targets",
        "match",
        "set_losses",
        "mask_losses",
        "class_scores",
        "mask_scores",
    )
    family: ClassVar[str] = ""
    """The network that the methods of a family share, as in `finetune@mask2former`."""
    tests_whole_images: ClassVar[bool] = False
    """Whether test images go whole through `predict_image`, as Mask2Former's methods are published, and not
    as centre crops through `predict`, as DeepLab's are."""
    network_name: ClassVar[str] = ""
    """What the tables call the network; empty: the class of `network`."""

    carried: ClassVar[tuple[str, ...]] = ()
    """Prefixes of the names in `tensors()` that are not the network's."""

    replay_images: int = 0
    """Images of earlier steps that the method keeps after the last step."""

    knows_all_classes: ClassVar[bool] = False
    """Whether the network, or the labels, depend on the classes of later steps from the first step on."""

    network: nn.Module
    pixel_statistics: PixelStatistics = IMAGENET
    """Mean and standard deviation of RGB in 0..1 that the images are normalised with; set by `build`."""

    def __init__(self, hyperparameters: Any, recipe: Recipe) -> None:
        """Raises UnsuitableRecipe for a recipe it cannot follow, ValueError for any other wrong value."""
        self.hyperparameters = hyperparameters
        self.recipe = recipe
        self.step: Step

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        owner = next(c for c in cls.__mro__ if "first_step" in vars(c))
        # Compared, not looked up in the class: a mixin may bring a hook too.
        if any(getattr(cls, hook, None) is not getattr(owner, hook, None) for hook in cls._FIRST_STEP_HOOKS):
            cls.first_step = ""

    @classmethod
    def first_step_of(cls, protocol: Protocol, hyperparameters: Any) -> MethodClass | None:
        """The class that names, and defines, the first step of this method; None where it is not shared.

        Override where it is another class's for some protocols alone.
        """
        return next((c for c in cls.__mro__ if vars(c).get("first_step")), None) if cls.first_step else None

    @classmethod
    def default_hyperparameters(cls, protocol: Protocol, scale: str) -> Any:
        """Override where the published values depend on the protocol, or do not carry over to the scale."""
        return cls.Hyperparameters()

    @classmethod
    @abstractmethod
    def default_recipe(cls, protocol: Protocol, scale: str) -> Recipe:
        """The recipe at "paper" or "mini". Override where a published schedule differs from the family's."""

    @abstractmethod
    def build(self, protocol: Protocol) -> None:
        """Make `self.network` as it is before the first step."""

    @abstractmethod
    def begin_step(self, step: Step, data: StepData) -> None:
        """Grow heads, keep the teacher, gather thresholds or memory. Called before every step."""

    def training_data(self, step: Step, data: StepData) -> StepData:
        """What this step trains on: `data`, or that with images of earlier steps (`StepData.with_replay`)."""
        return data

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Named scalar losses of one batch; their sum is minimised."""
        return self.later_loss(batch) if self.step.index else self.first_step_loss(batch)

    def first_step_loss(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of the first step."""
        raise NotImplementedError(f"{self.key}: write `first_step_loss`, or `training_loss`")

    def later_loss(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of the steps after the first; without an override, that of the first."""
        return self.first_step_loss(batch)

    def predict(self, images: Tensor) -> Tensor:
        """float32 (B, 3, H, W) -> int64 (B, H, W), the channel index of each pixel's class."""
        raise NotImplementedError(f"{self.key}: write `predict`, or set tests_whole_images")

    def predict_image(
        self, image: Tensor, size: tuple[int, int]
    ) -> Tensor | PanopticPrediction | InstancePrediction:
        """float32 (1, 3, h, w) -> what is on the photograph of `size` (H, W), in the words of the task.

        Semantic: int64 (H, W), the channel index of each pixel's class.
        """
        raise NotImplementedError(f"{self.key}: write `predict_image`, or leave tests_whole_images out")

    def end_step(self, step: Step, data: StepData) -> None:  # noqa: B027  # most have nothing to do
        """Merge branches, collect statistics. Called after the last iteration of every step."""

    def grow_to(self, step: Step) -> None:  # noqa: B027  # some networks have all their channels at once
        """Give a network of an earlier step, or one just built, the parameters that it has after `step`."""

    def official_tensors(self, step: Step, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the official code saved after `step`, by the names of `tensors()`. Called after `grow_to`.

        `state` has the official names. Raises ValueError where no official code is known.
        """
        raise ValueError(f"{self.key}: no official checkpoints are known; its own are read as they are")

    def lacks(self, step: Step, tensors: Mapping[str, Tensor]) -> str:
        """What the tensors after `step` lack for later steps to be trained, in words; "" for nothing."""
        return ""

    @abstractmethod
    def restore(self, step: Step, tensors: dict[str, Tensor]) -> None:
        """Bring the network into its state after `step`, from the tensors that `tensors()` gave then."""

    def tensors(self) -> dict[str, Tensor]:
        """Everything that later steps need: the network, and whatever else a method carries along."""
        return dict(self.network.state_dict())

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Optimiser groups. One learning rate and weight decay for all, as in the official code."""
        return [{"params": list(self.trainable()), "lr": lr}]

    def slow_and_plain_groups(
        self, lr: float, slow: str, plain: Callable[[str, nn.Module], bool]
    ) -> list[dict[str, Any]]:
        """For `parameter_groups`: modules whose names begin with `slow` have the backbone's learning rate,
        and those of which `plain(name, module)` holds no weight decay."""
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, module in self.network.named_modules():
            for parameter in module.parameters(recurse=False):
                if parameter.requires_grad:
                    groups.setdefault((name.startswith(slow), plain(name, module)), []).append(parameter)
        return [
            {
                "params": parameters,
                "lr": lr * (self.recipe.backbone_lr_factor if is_slow else 1.0),
                "weight_decay": 0.0 if is_plain else self.recipe.weight_decay,
            }
            for (is_slow, is_plain), parameters in groups.items()
        ]

    def trainable(self) -> Iterator[nn.Parameter]:
        return (p for p in self.network.parameters() if p.requires_grad)


MethodClass = type[Method]


def split_off(tensors: Mapping[str, Tensor], prefix: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """For `restore`: the tensors without those of a `carried` prefix, and those by their names behind it."""
    rest = {name: tensor for name, tensor in tensors.items() if not name.startswith(prefix)}
    found = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    return rest, found
