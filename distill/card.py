"""The model card: what a model was distilled from, how it was checked, how to load it, what to beware of."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill import artifact, licences
from distill.lineage import KEPT, PARTLY, SAME, Lineage


@dataclass(frozen=True)
class Step:
    """One artifact that a model came from."""

    name: str
    """Its folder's."""
    verb: str
    fingerprint: str
    classes: tuple[str, ...]
    """Models and readers that it names, each with its base."""


def steps(folder: Path) -> list[Step]:
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
    found[wanted] = Step(folder.name, str(recipe["verb"]), wanted, tuple(dict.fromkeys(_classes(recipe["settings"]))))


def _objects(value: object) -> Iterator[Mapping[str, object]]:
    """Every JSON object inside a value, itself first."""
    if isinstance(value, Mapping):
        yield value
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for held in value:
            yield from _objects(held)


def _classes(settings: object) -> Iterator[str]:
    """The classes that settings name."""
    for held in _objects(settings):
        if "class_path" in held:
            arguments = held["init_args"]
            base = arguments.get("base") if isinstance(arguments, Mapping) else None
            yield f"{held['class_path']}({base})" if isinstance(base, str) else str(held["class_path"])


def markdown(title: str, steps: Sequence[Step], held: Lineage, facts: Mapping[str, object]) -> str:
    """The card of an exported model.

    Args:
        title: What it is called.
        steps: What it was made by.
        held: What came with it.
        facts: Of the export: `dim`, `length`, `prompts`, `texts`, `parity`, `int8`, `bytes`.
    """
    top = f"{_front()}\n\n# {title}\n\n{_about(facts)}"
    parts = [_steps(steps), _licences(held), _screened(held), _checks(facts), _loading(facts), _limits(facts)]
    return "\n\n".join([top, *parts]) + "\n"


def _front() -> str:
    tags = ("sentence-transformers", "sentence-similarity", "feature-extraction", "onnx", "distillation")
    listed = "\n".join(f"- {tag}" for tag in tags)
    return f"---\nlibrary_name: sentence-transformers\npipeline_tag: sentence-similarity\ntags:\n{listed}\n---"


def _about(facts: Mapping[str, object]) -> str:
    return (
        f"A text embedding model of {facts['dim']} dimensions, made with `distill`. It reads {facts['length']} tokens, "
        "prompt included; what is longer is cut. Vectors have unit length: compare them by their dot product."
    ) + _space(facts)


def _space(facts: Mapping[str, object]) -> str:
    """What vectors of another model's space are compared with."""
    if "space" not in facts:
        return ""
    return (
        f"\n\nThey lie in the space of its teacher `{facts['space']}`: queries of this model find passages that the "
        "teacher embedded, or passages of this model. Readers that pool `last_hidden_state` themselves get the "
        "student's own space, which is another."
    )


def _steps(steps: Sequence[Step]) -> str:
    rows = [
        f"| {step.name} | {step.verb} | {', '.join(f'`{name}`' for name in step.classes)} | `{step.fingerprint[:12]}` |"
        for step in steps
    ]
    table = ["| step | verb | models and readers | recipe |", "|---|---|---|---|", *rows]
    return "\n".join(["## What it was distilled from\n", *table])


def _licences(held: Lineage) -> str:
    listed = [f"- {source}: {licence}" for source, licence in held.licences.items()] or ["None was recorded."]
    bold = [f"\n**{warning}**" for warning in licences.warnings(held.licences)]
    return "\n".join(["## Licences of its sources\n", *listed, *bold])


def _screened(held: Lineage) -> str:
    heading = "## Benchmarks kept out of its training texts\n\n"
    counts = held.contamination()
    if not counts:
        return heading + (
            "None is recorded: no step compared its texts with a benchmark's. Its scores on public benchmarks may be "
            "of texts that it was trained on."
        )
    brought = len(held.screened)
    rows = [
        f"| {name} | {found[SAME]:,} | {found[PARTLY]:,} | {found.get(KEPT, 0):,} | "
        f"{sum(name in each for each in held.screened.values())} of {brought} |"
        for name, found in counts.items()
    ]
    table = ["| benchmark | found word for word | in part | of these kept | steps |", "|---|---|---|---|---|", *rows]
    told = (
        "Rows whose text is that of a benchmark, but for case and punctuation, or shares half of the runs of eight "
        "words of either. They were dropped, but for those that were kept and marked. The last column says how many "
        "of the steps that brought texts in made the comparison; what a language model wrote later was not compared."
    )
    return heading + told + "\n\n" + "\n".join(table)


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
    if "empty" in facts:
        lines.append("- An empty text has no token, and cannot be read alone: leave it out.")
    if isinstance(facts["int8"], Mapping) and facts["int8"]["delivered"]:
        lines.append(
            "- x86 processors without VNNI can give other int8 vectors than those checked here, unless it was "
            "exported with `reduce_range`. Index and query with the same file."
        )
    return "## Limits\n\n" + "\n".join(lines)
