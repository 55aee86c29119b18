"""What the figures of training data say: each beside its bound, warnings, and the sections of a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distill import charts
from distill.findings import cut, told
from distill.page import NONE, Block, Figures, Noted, Numbers, Section, Table, Text
from distill.tables import JUDGED, OPINIONS

MOST_RELABELLED = 0.5
"""Gecko relabels 15 % of its rows (arXiv 2403.20327, section 3.3): where it is most of them, queries say too little
to find their own passage, or the judges do not judge."""
MOST_NOT_FOUND = 0.3
"""A query that does not find the passage it was written from is vague, or the teacher does not understand it."""
MOST_ANSWERS = 0.1
"""With seven negatives a row, a tenth of them wrong is a wrong one in every second row."""
MOST_PREFERRED = 0.25
"""One judge may err; where it prefers a quarter of the negatives to the positive, the positive is not its choice."""
MOST_ABOVE = 0.1
"""In such a list a contrastive loss pushes away what a loss on scores pulls close."""
MOST_EQUAL = 0.1
"""Lists of equal scores teach nothing to a loss on scores."""
ENTROPY = (0.2, 0.9)
"""Published settings leave 3 to 14 of their candidates in play. Of eight candidates the lower bound leaves one and a
half, which is what the label says already; the upper bound tells none of them apart."""
LEAST_CORRELATION = 0.05
"""Below it, two opinions rank a list as if one of them were drawn by chance."""
MOST_REPEATED = 0.05
"""Each repetition is a row of the budget that teaches what another one taught."""
CROWDED = (0.01, 20)
"""Share of the rows, and rows at least, from which on one passage is too often the answer: text that says a little of
everything, or a point that the teacher finds near all queries."""
MOST_LONGER = 2.0
"""Median words of positives over those of negatives, or the other way round: length alone then tells them apart."""

SPOKEN = {
    "answer": "the language model rather says that it answers the query (log-probability above log 0.5)",
    "preferred": "a judge that reads query and passage together puts it above the positive",
    "twin": "it says nearly the same as the positive",
    "unlisted": "it is no candidate, so nothing was said of it",
}
"""What is told of a hard negative."""
UNKNOWN = Text("Not known: give `candidates`, the artifact that `label` chose these examples from.")

Health = Mapping[str, Any]
"""What the verb writes in `health.json`."""


@dataclass(frozen=True)
class Check:
    """A figure beside what it should be."""

    name: str
    found: float
    wanted: str
    is_off: bool
    why: str
    """What it means if it is off."""
    is_share: bool = True

    @property
    def said(self) -> str:
        """The figure for people."""
        return f"{self.found:.1%}" if self.is_share else f"{self.found:.3g}"

    @property
    def warning(self) -> str:
        """The figure, what was wanted, and what it means."""
        return f"{self.name[0].upper()}{self.name[1:]}: {self.said}, wanted {self.wanted}. {self.why}"


def checks(health: Health) -> list[Check]:
    """What is compared with a bound, of the figures that could be told."""
    positives, answers = health["positives"], health["false_negatives"]
    scores, again = health["scores"], health["duplicates"]
    shares = {name: held["share"] for name, held in answers.items()}
    alike = _alike(health["agreement"])
    lost = [name for name in JUDGED if alike.get(name, 1.0) < LEAST_CORRELATION]
    found = [
        _most("relabelled rows", positives.get("relabelled"), MOST_RELABELLED,
              _resting(lost) or "Queries say too little to find their own passage, or the judges do not judge."),
        _most("seeds that are no candidates", positives.get("seed_rank", {}).get("not found"), MOST_NOT_FOUND,
              "Queries are vague, or the teacher does not understand them."),
        _most("hard negatives that the language model takes for answers", shares.get("answer"), MOST_ANSWERS,
              _resting(lost, "relevances") or "They would be pushed away. Label with a lower ceiling."),
        _most("hard negatives that a judge prefers to the positive", shares.get("preferred"), MOST_PREFERRED,
              _resting(lost)
              or "The positive is not this judge's choice: see which one, and whether the judges agree."),
        _most("hard negatives that the teacher finds nearer than the positive", shares.get("above similarities"),
              MOST_ABOVE, "They may be answers. Label with a rule that keeps them under a ceiling."),
        _most("hard negatives that say nearly the same as the positive", shares.get("twin"), 0.0,
              "They are answers. Label again."),
        _most("hard negatives that are the positive of the same query", again["contradicted"], 0.0,
              "Rows contradict each other, or themselves."),
        _most("lists in which a negative has a higher score than the positive", scores.get("above"), MOST_ABOVE,
              "A loss on scores pulls close there what a contrastive loss pushes away."),
        _most("lists of equal scores", scores.get("equal"), MOST_EQUAL, "They teach nothing to a loss on scores."),
        _most("rows whose query stands in an earlier row", again["queries"], MOST_REPEATED,
              "They teach half of what another row taught, and their answers may be each other's negatives."),
        _most("rows whose query and positive stand in an earlier row", again["pairs"], MOST_REPEATED,
              "They teach what another row taught."),
        _crowd(again),
        _entropy(health["entropy"]),
        _lengths(health["words"]),
        *_correlations(health["agreement"]),
    ]  # fmt: skip
    return [check for check in found if check is not None]


def _most(name: str, found: float | None, most: float, why: str) -> Check | None:
    return None if found is None else Check(name, found, f"at most {most:.0%}" if most else "none", found > most, why)


def _crowd(again: Mapping[str, Any]) -> Check | None:
    if not again["crowded"]:
        return None
    share, rows = CROWDED
    most, of = again["crowded"][0]["rows"], again["retrieval_rows"]
    is_off = most >= rows and most > share * of
    why = "It says a little of everything, or lies near all queries. Read it below."
    wanted = f"at most {share:.0%}, or fewer than {rows} rows"
    return Check("rows that have the most frequent positive", most / of, wanted, is_off, why)


def _entropy(entropy: Mapping[str, Any]) -> Check | None:
    if "share" not in entropy:
        return None
    found, (low, high) = float(entropy["share"]["mean"]), ENTROPY
    why = (
        "One passage takes all. Take a higher temperature, or auto."
        if found < low
        else "The passages of a list are hardly told apart. Take a lower temperature, or auto."
    )
    is_off, wanted = not low <= found <= high, f"{low:.0%} to {high:.0%}"
    return Check("entropy of the teacher's scores, of the largest possible", found, wanted, is_off, why)


def _lengths(words: Mapping[str, Any]) -> Check | None:
    middles = [words[name].get("percentiles", {}).get("50") for name in ("positives", "hard negatives")]
    if not all(middles):
        return None
    ratio, wanted = middles[0] / middles[1], f"{1 / MOST_LONGER:g} to {MOST_LONGER:g}"
    is_off = not 1 / MOST_LONGER <= ratio <= MOST_LONGER
    why = "Length alone tells a positive from a negative."
    return Check("median words of a positive, over those of a negative", ratio, wanted, is_off, why, is_share=False)


def _alike(agreement: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Of each opinion, how alike it ranks to the one that it is most like, of several."""
    best: dict[str, float] = {}
    for pair in agreement if len(agreement) > 1 else ():
        for name in (pair["one"], pair["other"]) if pair["correlation"] is not None else ():
            best[name] = max(best.get(name, -1.0), float(pair["correlation"]))
    return best


def _resting(lost: Sequence[str], alone: str = "") -> str:
    """What to say of a figure that rests on judges which rank as chance would; nothing if there are none.

    Args:
        lost: Those judges.
        alone: The one that the figure rests on; empty: on all judges.
    """
    named = " and ".join(name for name in lost if alone in ("", name))
    return f"It rests on {named}, ranked as chance would: mend the judge first." if named else ""


def _correlations(agreement: Sequence[Mapping[str, Any]]) -> list[Check]:
    """Of each opinion, how alike it ranks to the one that it is most like; of two opinions, how alike they are."""
    best, called = _alike(agreement), "rank correlation of {} with the opinion most like it"
    if len(agreement) == 1 and (only := agreement[0])["correlation"] is not None:
        best, called = {f"{only['one']} and {only['other']}": float(only["correlation"])}, "rank correlation of {}"
    wanted, why = f"at least {LEAST_CORRELATION}", "It ranks these candidates as chance would."
    judged = f"{why[:-1]}, and so it chose positives. Ask another judge, or label without it (`judges`)."
    return [
        Check(
            called.format(name), found, wanted, found < LEAST_CORRELATION, judged if name in JUDGED else why,
            is_share=False,
        )
        for name, found in best.items()
    ]  # fmt: skip


def warnings(health: Health, checked: Sequence[Check]) -> list[str]:
    """What is off, in a few sentences each."""
    refused = health["entropy"].get("refused")
    return [
        *(check.warning for check in checked if check.is_off),
        *([f"No automatic temperature: {refused}"] if refused else []),
    ]


def title(name: str, source: str, health: Health) -> tuple[str, str]:
    """The page's title and what it counts on.

    Args:
        name: Of the examples.
        source: Of the candidates that they were labelled from; may be empty.
        health: The figures.
    """
    count = len(health["warnings"])
    found = f"{count} warning{'s' * (count > 1)}" if count else "no warning"
    chosen = f", labelled from {source}" if source else ""
    lead = (
        f"{health['rows']:,} rows of {health['passages']:,} passages{chosen}. Made before any training, of numbers "
        "that earlier steps wrote; no model was asked."
    )
    return f"{name}: {found}", lead


def sections(health: Health, checked: Sequence[Check]) -> list[Section]:
    """What the page shows, but for rows to read."""
    return [
        Section("At a glance", [Numbers("In short", _glance(health)), _table_of(checked)]),
        Section("What is in it", _contents(health)),
        Section("Positives", _positives(health["positives"])),
        Section("Hard negatives that may be answers", _answers(health["false_negatives"])),
        Section("Do the judges agree?", _agreement(health["agreement"])),
        Section("Scores", _scores(health["scores"], health["entropy"])),
        Section("Repetitions", _repetitions(health["duplicates"])),
    ]


def _glance(health: Health) -> list[tuple[str, str]]:
    entropy = health["entropy"]
    shown = [(f"{health['rows']:,}", "rows to train on")]
    if (moved := health["positives"].get("relabelled")) is not None:
        shown.append((f"{moved:.1%}", "of the positives are another passage than the query was written from"))
    for name, said in (("answer", "answer, says the language model"), ("preferred", "beat the positive, says a judge")):
        if (share := health["false_negatives"].get(name, {}).get("share")) is not None:
            shown.append((f"{share:.1%}", f"of the hard negatives that were judged {said}"))
    if "share" in entropy:
        said = f"of the largest entropy is left by the scores at temperature {entropy['temperature']:.3g}"
        shown.append((f"{entropy['share']['mean']:.0%}", said))
    return shown


def _table_of(checked: Sequence[Check]) -> Table:
    rows = [
        [Noted(check.name, check.why), check.said, check.wanted, "off" if check.is_off else "good"] for check in checked
    ]
    strong = [place for place, check in enumerate(checked) if check.is_off]
    caption = "What is compared with a bound; in small letters, what it means if it is off"
    return Table(["figure", "found", "wanted", ""], rows, caption, strong, words=True)


def _contents(health: Health) -> list[Block]:
    negatives, tasks, words = health["negatives"], health["tasks"], health["words"]
    kinds = [[held["kind"], f"{held['rows']:,}", f"{held['share']:.1%}"] for held in health["kinds"]]
    common = [
        [cut(held["task"], 160) or NONE, f"{held['rows']:,}", f"{held['share']:.1%}"] for held in tasks["frequent"]
    ]
    about = (
        f"{negatives['mean']:.1f} hard negatives a row on average; {negatives['rows_without']:,} rows have none. "
        f"{negatives['rows_with_the_batch']:,} rows may take negatives from their batch as well."
    )
    caption = f"Tasks, the instruction read before a query: the most frequent of {tasks['distinct']:,}"
    return [
        Table(["kind", "rows", "share"], kinds, "Kinds of rows"),
        Text(about),
        Table(["task", "rows", "share"], common, caption, words=True),
        _percentiles("Words, as spaces part them", words),
        _drawn({f"Words of {name}": held for name, held in words.items()}),
    ]


def _percentiles(caption: str, named: Mapping[str, Any]) -> Table:
    """A line for each distribution."""
    there = {name: held for name, held in named.items() if held["count"]}
    rows = [
        [name, f"{held['count']:,}", *(_short(value) for value in (held["mean"], *held["percentiles"].values()))]
        for name, held in there.items()
    ]
    ends = {"0": "least", "50": "median", "100": "most"}
    columns = [ends.get(at, f"{at} %") for held in list(there.values())[:1] for at in held["percentiles"]]
    return Table(["of", "how many", "mean", *columns], rows, caption)


def _short(value: float) -> str:
    """A number in few letters."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _share(value: float | None) -> str:
    return NONE if value is None else f"{value:.1%}"


def _drawn(named: Mapping[str, Any]) -> Figures:
    drawn = {name: held["histogram"] for name, held in named.items() if held["count"]}
    return Figures([(name, charts.histogram(name, bars["edges"], bars["counts"])) for name, bars in drawn.items()])


def _positives(positives: Mapping[str, Any]) -> list[Block]:
    if not positives:
        return [UNKNOWN]
    about = (
        f"{positives['rows_relabelled']:,} rows have another positive than the passage their query was written from, "
        "the seed, since the judges prefer it. A seed that the teacher does not find points to a vague query."
    )
    named = {
        "the seed": positives["seed_rank"],
        "the seed, of relabelled rows": positives["seed_rank_of_relabelled"],
        "the positive": positives["positive_rank"],
    }
    rows = [[name, *(f"{share:.1%}" for share in shares.values())] for name, shares in named.items() if shares]
    return [
        Text(about),
        Table(["rank", *positives["seed_rank"]], rows, "Where the teacher ranks them among its candidates"),
    ]


def _answers(answers: Mapping[str, Any]) -> list[Block]:
    if not answers:
        return [UNKNOWN]
    about = (
        "A hard negative that answers its query teaches the opposite of what is wanted. This is an estimate, as good "
        "as the judges are. Left out are negatives of which, or of whose positive, nothing was said."
    )
    rows = [
        [
            SPOKEN.get(name) or f"{name.removeprefix('above ')} puts it above the positive",
            _share(held["share"]),
            f"{held['of']:,}",
            f"{held['left_out']:,}",
        ]
        for name, held in answers.items()
    ]
    return [Text(about), Table(["of a hard negative", "share", "of so many", "left out"], rows, words=True)]


def _agreement(agreement: Sequence[Mapping[str, Any]]) -> list[Block]:
    if not agreement:
        return [Text("Fewer than two opinions of the candidates are known.")]
    about = (
        "Over the candidates that both judged: the share of queries of which both put the same one first, what chance "
        "would give, and how alike they rank the list (Spearman's correlation: 1 the same, 0 as by chance). Left out "
        "are queries of which one of them says nothing, or the same of every candidate. Opinions that always agree add "
        "nothing to each other; of two that never agree one is wrong."
    )
    rows = [
        [
            f"{pair['one']}, {pair['other']}",
            *(_share(pair[measure]) for measure in ("same_best", "by_chance")),
            NONE if pair["correlation"] is None else _short(pair["correlation"]),
            f"{pair['queries']:,}",
            f"{pair['left_out']:,}",
        ]
        for pair in agreement
    ]
    columns = ["opinions", "same best", "by chance", "correlation", "queries", "left out"]
    named = dict.fromkeys(name for pair in agreement for name in (pair["one"], pair["other"]))
    meanings = [[name, OPINIONS[name]] for name in named]
    return [Text(about), Table(columns, rows), Table(["opinion", "what it is"], meanings, words=True)]


def _scores(scores: Mapping[str, Any], entropy: Mapping[str, Any]) -> list[Block]:
    if not scores:
        return [Text("These rows have no scores: a contrastive loss can learn from them, a loss on scores cannot.")]
    figures = [
        (
            "negatives above the positive",
            "share of lists in which a hard negative has a higher score",
            _share(scores["above"]),
        ),
        ("lists of equal scores", "share; they teach nothing to a loss on scores", _share(scores["equal"])),
        ("passages without a score", "nobody judged them; a loss on scores leaves them out", scores["not_scored"]),
        ("automatic temperature", "it leaves 0.6 of the largest possible entropy", entropy["automatic"]),
        ("temperature taken", "scores are divided by it, before they become shares of a list", entropy["temperature"]),
        ("entropy", "of those shares in nats, on average; 0: one passage takes all", entropy.get("entropy")),
        ("passages in play", "as many equal shares would have the same entropy; on average", entropy.get("effective")),
    ]
    kinds = {name: scores[name] for name in ("positives", "hard negatives")}
    apart = {name: scores[name] for name in ("spread", "deviation")}
    shares = {"entropy": entropy["share"]} if "share" in entropy else {}
    caption = "Scores; in a list, their spread (the largest less the least) and deviation, and its entropy as a share"
    drawn = {f"Scores of {name}": held for name, held in kinds.items()}
    drawn |= {f"{name[0].upper()}{name[1:]} of a list": held for name, held in (apart | shares).items()}
    rows = [[Noted(name, meaning), told(value)] for name, meaning, value in figures]
    return [Table(["figure", "value"], rows, words=True), _percentiles(caption, kinds | apart | shares), _drawn(drawn)]


def _repetitions(again: Mapping[str, Any]) -> list[Block]:
    figures = [
        ("queries", "share of rows whose task and query stand in an earlier row; rows of a class, or of one query's "
         "several answers, are left out", again["queries"]),
        ("queries in another spelling", "share of rows whose query stands in an earlier row but for case and "
         "punctuation, whatever the task", again["plain_queries"]),
        ("queries, nearly", "share of rows whose query has 0.8 of the runs of three words of an earlier row's",
         again["near_queries"]),
        ("pairs", "share of rows whose task, query and positive stand in an earlier row", again["pairs"]),
        ("contradictions", "share of hard negatives that are the positive of the same query, in any row",
         again["contradicted"]),
    ]  # fmt: skip
    rows = [[Noted(name, meaning), _share(value)] for name, meaning, value in figures]
    blocks: list[Block] = [Table(["what is repeated", "share"], rows, words=True)]
    if again["crowded"]:
        listed = [[held["text"], f"{held['rows']:,}"] for held in again["crowded"]]
        caption = "Passages that are the positive of most retrieval rows"
        blocks.append(Table(["passage", "rows"], listed, caption, words=True))
    return blocks
