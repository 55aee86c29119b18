"""What the names of models and figures mean, for those who did not write the config."""

START, CONTRASTIVE = "start", "contrastive"
"""The models that say what a teacher is worth: the student before it was taught, and the student taught without."""

NAMES = {
    "untrained": "the language model with its pooling, before any training",
    "teacher_1": "the teacher after its first stage",
    "teacher": "the teacher whose numbers the student learns from",
    START: "the student before training",
    CONTRASTIVE: "the student's start trained on the same rows without the teacher's numbers",
    "regression": "the student after its first stage: the teacher's vectors alone",
    "distilled": "the student, taught by the teacher",
    "student": "the student, taught by the teacher",
    "soup": "the mean of several trainings' weights",
    "int8": "the student as it is shipped: an ONNX file with weights of 8 bits",
    "bm25": "words alone, no model",
}
"""What the names mean that configs give to evaluated models."""

ALONE = {"teacher": "the teacher after its last stage"}
"""What they mean where no student was evaluated."""

FIGURES = {
    # synthesize, ingest, generate
    "groups": "made-up examples of each group",
    "tasks": "tasks that the language model thought of for each group",
    "passages": "texts that can be found",
    "queries": "questions: written for a passage, brought in, or asked of a benchmark",
    "examples": "rows to train on: a query and its passages, the positive first",
    "kinds": "examples of each kind of task",
    "asked": "passages that the language model was to write a query for",
    "prompt": "fingerprint of the wording that the language model was given",
    # embed, mine
    "rows": "rows that this step wrote",
    "model": "what computed it",
    "dim": "numbers in a vector",
    "tokens": "pieces of words that were read",
    "filled": "texts that reach the model's length: what stands behind it is not read",
    "mean_pairwise_cosine": "cosine of two texts drawn at random; near 1, all vectors point one way",
    "seed_found": "share of queries that find the passage they were written from among their candidates",
    "seed_within": "share of queries that find the passage they were written from among so many first candidates",
    "twins_of_the_seed": "candidates that say nearly the same as the passage their query was written from",
    "mean_spread": "mean of how far similarities lie apart inside a list of candidates",
    # judge, label
    "pairs": "pairs of a query and a candidate that were judged",
    "saved": "share of the pairs that this judge was not asked of, since those before agreed",
    "put_the_same_first": "share of queries for which these two prefer the same candidate",
    "relabelled": "share of rows with another positive than the passage their query was written from",
    "mean_negatives": "hard negatives of a row, on average",
    "without_negatives": "rows that have no hard negative",
    "under_the_ceiling": "share of the candidates that are unlike enough to the positive to be negatives",
    "temperature_for_entropy_0.6": "temperature at which the scores of a list leave several passages in play: "
    "their entropy is 0.6 of the largest possible",
    "entropy": "entropy of the scores at that temperature, in nats; 0: one passage takes all",
    "score": "what the scores of the rows are",
    # health
    "distinct_tasks": "how many different tasks the rows have",
    "negatives_above": "share of lists in which a hard negative has a higher score than the positive",
    "equal_scores": "share of lists whose scores are all equal: they teach nothing to a loss on scores",
    "temperature": "what the scores are divided by before they become shares of a list",
    "entropy_share": "entropy of those shares, of the largest possible; 0: one passage takes all, 1: all are alike",
    "negatives_taken_for_answers": "share of judged hard negatives that the language model rather takes for answers",
    "negatives_preferred": "share of judged hard negatives that a judge puts above the positive",
    "negatives_nearer": "share of hard negatives that the teacher finds nearer to the query than the positive",
    "negatives_like_the_positive": "share of hard negatives that say nearly the same as the positive",
    "contradicted": "share of hard negatives that are the positive of the same query, in any row",
    "repeated_queries": "share of rows whose task and query stand in an earlier row",
    "repeated_pairs": "share of rows whose task, query and positive stand in an earlier row",
    "agreement": "rank correlation of two opinions over a list of candidates, on average; 0: as by chance",
    "warning": "what should be looked at before this is used",
    # train, average
    "teacher_temperature": "what the teacher's scores are divided by before they become shares of a list",
    "teacher_entropy": "entropy of those shares, in nats; 0: one passage takes all",
    "matrix_temperature": "the same for cosines with all passages of a batch, the teacher's and the student's",
    "matrix_entropy": "entropy of the teacher's shares, in nats; 0: one passage takes all",
    "skipped_steps": "steps left out, since their gradient was no number",
    "last": "measure at the last step",
    "dev": "nDCG@10 on a part of the benchmark that chose the weights: before training, the best, at which step; "
    "where training ended early, the step",
    "models": "those that were averaged or evaluated: how many, or what each is, costs and reaches",
    "apart": "how far the averaged models lie from their mean in what they save, as a share of its length",
    # export
    "length": "pieces of words that the model reads of a text",
    "texts": "texts that were trained on or compared, or that have a class to be told",
    "parity": "by how much vectors of the exported file differ from ours",
    "int8 delivered": "whether the file with weights of 8 bits passed its gates",
    "int8 cosine_mean": "cosine of a text's two vectors, with weights of 8 bits and without, on average",
    "int8 cosine_min": "the same of the worst text",
    "int8 neighbours": "share of a text's ten nearest that stay the same with weights of 8 bits",
    "opens": "what in its folder is to be opened",
    "space": "model whose vectors these are compared with",
    "prompts": "what is put before a text of this kind",
    "bytes": "size of this file",
    # evaluate
    "main": "measure that models are compared by",
    "teacher": "model that retention is relative to",
    # any
    "dropped": "rows left out by this rule",
    "refers": "recipe of what its row numbers count",
    "seconds": "how long the step took",
    "seconds_of": "how long this part took",
    "peak_memory_bytes": "most memory that the process held",
    "licences": "under which terms it came, and all that it was made from",
    "licence_warnings": "what those terms ask, or that they are not known",
    "contamination": "texts brought in that occur in this benchmark; dropped, unless kept and marked",
    "screened": "the same, by the step that brought them in",
}
"""What the figures mean that stages write as facts, by path or by its first word."""

ASIDE = (
    "seconds",
    "peak_memory_bytes",
    "versions",
    "refers",
    "histograms",
    "dropped",
    "licences",
    "contamination",
    "screened",
)
"""Facts that have a place of their own, or are no reading matter."""


def meaning(path: str) -> str:
    """One line on a figure that a stage wrote; empty of one that is not known."""
    return FIGURES.get(path) or FIGURES.get(path.partition(" ")[0], "")
