"""Those who know: a file is one model that can be asked."""

from teachers.causal_lm import CausalLM
from teachers.cross_encoder import CrossEncoder
from teachers.decoder import Decoder
from teachers.latent_attention import FoldedLatentAttention, LatentAttention
from teachers.nv_embed import NVEmbed
from teachers.presets import E5Mistral, GTEQwen2, LlamaEmbedNemotron
from teachers.served_lm import ServedLM

__all__ = [
    "CausalLM",
    "CrossEncoder",
    "Decoder",
    "E5Mistral",
    "FoldedLatentAttention",
    "GTEQwen2",
    "LatentAttention",
    "LlamaEmbedNemotron",
    "NVEmbed",
    "ServedLM",
]
