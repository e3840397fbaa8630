"""Multi-scale deformable attention, with kernels for CPU and GPU. The maths is in README.md."""

from ops.ms_deform_attn.backend import backend_info
from ops.ms_deform_attn.module import MSDeformAttn
from ops.ms_deform_attn.op import ms_deform_attn, ms_deform_attn_offsets

__all__ = ["MSDeformAttn", "backend_info", "ms_deform_attn", "ms_deform_attn_offsets"]
