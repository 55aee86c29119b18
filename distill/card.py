"""The model card: what a model was distilled from, how it was checked, how to load it, what to beware of."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill import artifact, hub

NON_COMMERCIAL = ("-nc", "non-commercial", "noncommercial")


@dataclass(frozen=True)
class Step:
    """One artifact that a model came from."""

    name: str
    """Its folder's."""
    verb: str
    fingerprint: str
    classes: tuple[str, ...]
    """Models and readers that it names, each with its base."""
    licences: Mapping[str, str]
    """Licence of each base and of each source."""


def lineage(folder: Path) -> list[Step]:
    """An artifact and all that it was made from, what came first standing first.

    A recipe knows its inputs by their fingerprints alone. They are looked for beside the artifact,
    where one experiment keeps them; those that lie elsewhere are left out.
    """
    folders = [other for other in folder.absolute().parent.iterdir() if artifact.is_artifact(other)]
    beside = {artifact.fingerprint(other): other for other in folders}
    found: dict[str, Step] = {}
    _walk(artifact.fingerprint(folder), beside, found)
    return list(found.values())


def _walk(wanted: str, beside: Mapping[str, Path], found: dict[str, Step]) -> None:
    if wanted in found or wanted not in beside:
        return
    folder = beside[wanted]
    recipe = artifact.read_json(folder / "recipe.json")
    for held in _objects(recipe):
        if set(held) == {"artifact"}:
            _walk(str(held["artifact"]), beside, found)
    facts = artifact.read_json(folder / "done.json") if artifact.is_done(folder) else {}
    found[wanted] = _step(folder.name, wanted, recipe, facts)


def _objects(value: object) -> Iterator[Mapping[str, object]]:
    """Every JSON object inside a value, itself first."""
    if isinstance(value, Mapping):
        yield value
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for held in value:
            yield from _objects(held)


def _step(name: str, fingerprint: str, recipe: Mapping[str, object], facts: Mapping[str, object]) -> Step:
    classes: dict[str, None] = {}  # a set that keeps its order
    licences: dict[str, str] = {}
    for held in _objects(recipe["settings"]):
        if "class_path" in held:
            arguments = held["init_args"]
            base = arguments.get("base") if isinstance(arguments, Mapping) else None
            classes[f"{held['class_path']}({base})" if isinstance(base, str) else str(held["class_path"])] = None
            if isinstance(base, str):
                licences[base] = hub.licence(base)
        if isinstance(said := held.get("licence"), str) and said:
            licences[name] = f"{licences[name]}, {said}" if name in licences else said
    noted = facts.get("licences", {})
    licences |= noted if isinstance(noted, Mapping) else {name: ", ".join(map(str, noted))}  # type: ignore[call-overload]
    return Step(name, str(recipe["verb"]), fingerprint, tuple(classes), licences)


def licences(steps: Sequence[Step]) -> dict[str, str]:
    """The licence of everything that a model came from."""
    return {source: licence for step in steps for source, licence in step.licences.items()}


def warnings(steps: Sequence[Step]) -> list[str]:
    """What the licences of a model's sources ask of those who use it, one sentence each."""
    said = []
    named = " ".join([*(name for step in steps for name in step.classes), *licences(steps).values()]).lower()
    if "gemma" in named:
        said.append(
            "A Gemma model wrote, judged or embedded training data. The Gemma Terms of Use count models trained on "
            "Gemma's outputs to act like it as derivatives: treat this model as under those terms "
            "(https://ai.google.dev/gemma/terms)."
        )
    if any(mark in named for mark in NON_COMMERCIAL):
        said.append("One of its sources is licensed for non-commercial use only.")
    if unknown := sorted(source for source, licence in licences(steps).items() if licence == "unknown"):
        said.append(f"The licence is not known of: {', '.join(unknown)}.")
    return said


def markdown(title: str, steps: Sequence[Step], facts: Mapping[str, object]) -> str:
    """The card of an exported model.

    Args:
        title: What it is called.
        steps: Its lineage.
        facts: Of the export: `dim`, `length`, `prompts`, `texts`, `parity`, `int8`, `bytes`.
    """
    top = f"{_front()}\n\n# {title}\n\n{_about(facts)}"
    return "\n\n".join([top, _sources(steps), _checks(facts), _loading(facts), _limits(facts)]) + "\n"


def _front() -> str:
    tags = ("sentence-transformers", "sentence-similarity", "feature-extraction", "onnx", "distillation")
    listed = "\n".join(f"- {tag}" for tag in tags)
    return f"---\nlibrary_name: sentence-transformers\npipeline_tag: sentence-similarity\ntags:\n{listed}\n---"


def _about(facts: Mapping[str, object]) -> str:
    return (
        f"A text embedding model of {facts['dim']} dimensions, made with `distill`. It reads {facts['length']} tokens, "
        "prompt included; what is longer is cut. Vectors have unit length: compare them by their dot product."
    )


def _sources(steps: Sequence[Step]) -> str:
    rows = [
        f"| {step.name} | {step.verb} | {', '.join(f'`{name}`' for name in step.classes)} | `{step.fingerprint[:12]}` |"
        for step in steps
    ]
    table = ["| step | verb | models and readers | recipe |", "|---|---|---|---|", *rows]
    listed = [f"- {source}: {licence}" for source, licence in licences(steps).items()] or ["None was recorded."]
    bold = [f"\n**{warning}**" for warning in warnings(steps)]
    return "\n".join(["## What it was distilled from\n", *table, "\n## Licences of its sources\n", *listed, *bold])


def _checks(facts: Mapping[str, object]) -> str:
    parity, int8 = facts["parity"], facts["int8"]
    assert isinstance(parity, Mapping)
    rows = [
        f"| {name} | largest difference of a coordinate {apart['max']:.1e}, mean {apart['mean']:.1e} |"
        for name, apart in parity.items()
    ]
    if isinstance(int8, Mapping):
        rows.append(f"| int8 | {int8_in_words(int8)} |")
    sizes = facts["bytes"]
    assert isinstance(sizes, Mapping)
    listed = [f"| `{name}` | {size / 1e6:,.2f} MB |" for name, size in sizes.items() if size >= 10_000]
    told = (
        f"Against the student itself, on {facts['texts']} texts of a corpus and on awkward ones (empty, one word, too "
        "long, other scripts, emoji), alone and in batches, as queries and as passages."
    )
    tables = ["| files read by | |", "|---|---|", *rows, "\n| file | size |", "|---|---|", *listed]
    return "\n".join(["## How it was checked\n", told + "\n", *tables])


def int8_in_words(int8: Mapping[str, object]) -> str:
    """What the gates found of the int8 file."""
    found = (
        f"cosine with fp32 mean {int8['cosine_mean']:.4f}, least {int8['cosine_min']:.4f}; "
        f"{int8['neighbours']:.1%} of ten nearest neighbours the same"
    )
    return found if int8["delivered"] else f"refused, not in this folder: {int8['why']} ({found})"


def _loading(facts: Mapping[str, object]) -> str:
    int8 = facts["int8"]
    file = "onnx/model_quantized.onnx" if isinstance(int8, Mapping) and int8["delivered"] else "onnx/model.onnx"
    prompts = json.dumps(facts["prompts"], ensure_ascii=False)
    return f"""## How to load it

With sentence-transformers, which reads the prompts ({prompts}) from this folder:

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("path/to/this/folder")
queries = model.encode(["how do I sort a list"], prompt_name="query")
passages = model.encode(["sorted(x) gives a new list"], prompt_name="document")
print(model.similarity(queries, passages))
```

With ONNX Runtime and tokenizers alone:

```python
import json, pathlib
import numpy as np, onnxruntime, tokenizers

tokenizer = tokenizers.Tokenizer.from_file("tokenizer.json")  # cuts and pads by itself
session = onnxruntime.InferenceSession("{file}")
prompt = json.loads(pathlib.Path("config_sentence_transformers.json").read_bytes())["prompts"]["query"]
read = tokenizer.encode_batch([prompt + text for text in ["how do I sort a list"]])
ids = np.array([one.ids for one in read], dtype=np.int64)
known = {{
    "input_ids": ids,
    "attention_mask": np.array([one.attention_mask for one in read], dtype=np.int64),
    "token_type_ids": np.zeros_like(ids),
}}
(vectors,) = session.run(["sentence_embedding"], {{put.name: known[put.name] for put in session.get_inputs()}})
```"""


def _limits(facts: Mapping[str, object]) -> str:
    lines = [
        f"- What stands after token {facts['length']} is not seen.",
        "- It learned from the corpus above; on texts unlike it, measure before you rely on it.",
        "- The figures say how near the files are to the student, not how good the student is: see its evaluation.",
    ]
    if isinstance(facts["int8"], Mapping) and facts["int8"]["delivered"]:
        lines.append(
            "- x86 processors without VNNI can give other int8 vectors than those checked here, unless it was "
            "exported with `reduce_range`. Index and query with the same file."
        )
    return "## Limits\n\n" + "\n".join(lines)
