"""SimCIS's network: queries are features picked from the maps, each with a box; beside them virtual ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from methods.networks.mask2former.config import Mask2FormerConfig
from methods.networks.mask2former.decoder import MaskedLayers, Memory, mask_logits
from methods.networks.mask2former.layers import MLP
from methods.networks.mask2former.network import PixelNetwork
from methods.networks.mask2former.pixel_decoder import Pixels
from methods.networks.mask2former.proposals import box_positions, inverse_sigmoid, propose_boxes


@dataclass(frozen=True, eq=False)
class SimCISOutput:
    """What a forward pass gives: B images, Q selected and V virtual queries, K classes, L predictions.

    Prediction 0 is that of the selected features themselves ("interm"), 1 to L - 1 follow the decoder's
    layers. Virtual queries are the last V; their masks and boxes mean nothing.
    """

    layer_logits: Tensor
    """(L, B, Q + V, K) logits of classes, each on its own: there is no ∅."""
    mask_embeddings: Tensor
    """(L, B, Q + V, D)."""
    mask_features: Tensor
    """(B, D, h, w) float32, at a quarter of the (padded) images' size."""
    layer_boxes: Tensor
    """(L, B, Q + V, 4) in 0..1: centre, width and height."""
    queries: Tensor
    """(B, Q + V, C) the features that the queries start from."""
    places: Tensor
    """int64 (B, Q): where on the maps they were selected, the index in the levels laid end to end."""
    distilled: Distilled | None = None
    """What the queries at the old network's places say; None where it was not asked for."""

    @property
    def num_queries(self) -> int:
        """Q, without virtual queries."""
        return self.places.shape[1]

    @property
    def logits(self) -> Tensor:
        """(B, Q + V, K) of the final prediction."""
        return self.layer_logits[-1]

    @cached_property
    def masks(self) -> Tensor:
        """(B, Q, h, w) mask logits of the final prediction."""
        return mask_logits(self.mask_embeddings[-1, :, : self.num_queries], self.mask_features)


class Distilled(NamedTuple):
    """Class logits (B, Q, K) of the new network at the places that the old network selected."""

    selected: Tensor
    final: Tensor | None
    """After the last layer of the decoder; None where the decoder is not distilled."""


class Teaching(NamedTuple):
    """Where the old network looked, and what is distilled there."""

    places: Tensor
    """int64 (B, Q): `SimCISOutput.places` of the old network."""
    decoder: bool
    """Whether the decoder is distilled too."""
    own_boxes: bool
    """Whether the decoder's queries start from the boxes of their own places."""


class _Prediction(NamedTuple):
    normed: Tensor
    embeddings: Tensor
    boxes: Tensor


class SimCISDecoder(MaskedLayers):
    """`Pixels` -> `SimCISOutput`. Parameters are named as in SimCIS, the box head but once.

    Source: SimCIS modeling/transformer_decoder/mask2former_transformer_decoder.py; a stop-gradient lies
    between the selected features and the decoder (paper section 3.2).
    """

    def __init__(self, config: Mask2FormerConfig, num_classes: int) -> None:
        super().__init__(config)
        width = config.hidden
        self.num_queries = config.num_queries
        self.class_embed = nn.Linear(width, num_classes)
        self.ref_point_head = MLP(2 * width, width, width)
        self.enc_output = nn.Linear(width, width)
        self.encoder_norm = nn.LayerNorm(width)
        self.query_scale = MLP(width, width, width)
        self.bbox_embed = MLP(width, width, width, 4)
        for parameter in self.bbox_embed.layers[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(
        self, pixels: Pixels, virtual: Tensor | None = None, teaching: Teaching | None = None
    ) -> SimCISOutput:
        """`virtual` (B, V, C): features shown to the classifier beside the selected ones."""
        memory = Memory(pixels, self.level_embed.weight)
        proposals, counts = propose_boxes(pixels.sizes, pixels.mask_features.device)
        tokens = torch.cat(memory.values, dim=1) * counts
        places = self._select(tokens)
        queries = self._aligned(tokens, places)
        boxes = self._boxes(queries, proposals[places])
        if virtual is not None:
            queries = torch.cat([queries, virtual], dim=1)
            boxes = torch.cat([boxes, boxes.new_zeros(*virtual.shape[:2], 4)], dim=1)
        predictions = self._decode(memory, queries, boxes, places.shape[1])
        return SimCISOutput(
            layer_logits=self.class_embed(torch.stack([p.normed for p in predictions])),
            mask_embeddings=torch.stack([p.embeddings for p in predictions]),
            mask_features=pixels.mask_features,
            layer_boxes=torch.stack([p.boxes for p in predictions]),
            queries=queries,
            places=places,
            distilled=teaching and self._distilled(memory, tokens, proposals, boxes, teaching),
        )

    @torch.no_grad()
    def _select(self, tokens: Tensor) -> Tensor:
        """(B, S, C) -> int64 (B, Q): where any class, learnt or not, is likeliest."""
        scores = self.class_embed(self.decoder_norm(self._align(tokens))).amax(dim=-1)
        return scores.topk(min(self.num_queries, tokens.shape[1]), dim=1).indices

    def _aligned(self, tokens: Tensor, places: Tensor) -> Tensor:
        """The features that queries at `places` (B, Q) start from, (B, Q, C)."""
        return self._align(tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[2])))

    def _align(self, tokens: Tensor) -> Tensor:
        return cast(Tensor, self.encoder_norm(self.enc_output(tokens)))

    def _boxes(self, x: Tensor, origin_logits: Tensor) -> Tensor:
        return cast(Tensor, self.bbox_embed(x) + origin_logits).sigmoid()

    def _decode(self, memory: Memory, queries: Tensor, boxes: Tensor, num_selected: int) -> list[_Prediction]:
        """The prediction of the queries themselves, then one a layer. Virtual queries pass the
        feed-forward networks alone, so that the selected ones never see them."""
        predictions = [self._predict(queries, boxes)]
        x = queries.detach()
        for level, exchange, attend, feed_forward in self.layers():
            boxes = boxes.detach()
            selected, virtual = x[:, :num_selected], x[:, num_selected:]
            code = box_positions(boxes[:, :num_selected], x.shape[2] // 2)
            positions = self.query_scale(selected) * self.ref_point_head(code)
            allowed = memory.allowed(predictions[-1].embeddings[:, :num_selected], level)
            selected = exchange(selected, positions)
            selected = attend(selected, positions, memory.keys[level], memory.values[level], allowed)
            x = feed_forward(torch.cat([selected, virtual], dim=1))
            boxes = self._boxes(x, inverse_sigmoid(boxes))
            predictions.append(self._predict(x, boxes))
        return predictions

    def _predict(self, x: Tensor, boxes: Tensor) -> _Prediction:
        normed = self.decoder_norm(x)
        return _Prediction(normed, self.mask_embed(normed), boxes)

    def _distilled(
        self, memory: Memory, tokens: Tensor, proposals: Tensor, boxes: Tensor, teaching: Teaching
    ) -> Distilled:
        features = self._aligned(tokens, teaching.places)
        selected = self.class_embed(self.decoder_norm(features))
        if not teaching.decoder:
            return Distilled(selected, None)
        if teaching.own_boxes:
            boxes = self._boxes(features, proposals[teaching.places])
        num_selected = features.shape[1]
        last = self._decode(memory, features, boxes[:, :num_selected], num_selected)[-1]
        return Distilled(selected, self.class_embed(last.normed))


class SimCISNetwork(PixelNetwork):
    """(B, 3, H, W) normalised images -> `SimCISOutput`, whose masks cover the padded images."""

    def __init__(self, config: Mask2FormerConfig, num_classes: int) -> None:
        """`num_classes` of the whole protocol: the class head does not grow."""
        super().__init__(config)
        self.predictor = SimCISDecoder(config, num_classes)

    def forward(
        self, images: Tensor, virtual: Tensor | None = None, teaching: Teaching | None = None
    ) -> SimCISOutput:
        """See `SimCISDecoder.forward`."""
        return cast(SimCISOutput, self.predictor(self.pixels(images), virtual, teaching))
