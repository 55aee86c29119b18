"""Those who know: a file is one model that can be asked."""

from teachers.causal_lm import CausalLM
from teachers.latent_attention import LatentAttention
from teachers.nv_embed import NVEmbed

__all__ = ["CausalLM", "LatentAttention", "NVEmbed"]
