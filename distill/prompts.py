"""Every word that is said to a model. A prompt's digest is recorded beside what the model answered."""

import hashlib
import re
from dataclasses import dataclass

QUERY = "Instruct: {task}\nQuery: "
"""NV-Embed's template, on the query side only (arXiv 2405.17428, section 4.1)."""


def instruction(task: str, template: str = QUERY) -> str:
    """What stands before a query with this task; nothing if the task is empty."""
    return template.replace("{task}", task) if task else ""


@dataclass(frozen=True)
class Prompt:
    """Something asked of a language model: fixed examples first, so that they are computed once."""

    shared: str
    """Instructions and examples, the same for all."""
    single: str
    """What is said of one passage or pair; `{passage}`, `{query}` and `{kind}` are filled in."""

    @property
    def digest(self) -> str:
        """Names the prompt in the tables that it made."""
        return hashlib.sha256((self.shared + "\0" + self.single).encode()).hexdigest()[:16]

    def filled(self, *, passage: str = "", query: str = "", kind: str = "") -> str:
        """The part that differs, for one passage or pair; line breaks inside them become spaces.

        A passage is data: it cannot open a field of its own, since fields start lines.
        """
        # One pass, so that a passage that contains "{query}" stays as it is.
        fields = {"passage": _line(passage), "query": _line(query), "kind": kind}
        return re.sub(r"\{(passage|query|kind)\}", lambda found: fields[found[1]], self.single)


def _line(text: str) -> str:
    return " ".join(text.split())


KINDS = ("question answering", "fact checking", "search result", "sentence similarity")
"""Kinds of task that a query is written for, sampled uniformly (Gecko, arXiv 2403.20327, sections 3.2 and 4.4)."""

WRITE = Prompt(
    shared="""\
Each passage has a task and a query. The query uses the words and the subject of its own passage.

Passage: bisect.insort If x is already in a, insert it to the right of the rightmost x. The list a must be sorted.
Kind: search result
Task: Given search words, find the function that is wanted.
Query: insert item x into a sorted list with bisect insort

Passage: socket.setdefaulttimeout A value of None means that new socket objects have no timeout.
Kind: sentence similarity
Task: Given a sentence, find a passage that says the same.
Query: When the default timeout is None, new sockets never time out.

Passage: The Vasa sank in Stockholm harbour on its maiden voyage in 1628. The ship was too tall for its ballast.
Kind: fact checking
Task: Given a claim, find a passage that supports or refutes it.
Query: The ship Vasa sank in Stockholm in the year 1628.

Passage: numpy.clip Values outside the interval are set to its edges. a: array_like, the array that holds the elements \
to clip.
Kind: question answering
Task: Given a programming question, find the documentation that answers it.
Query: how do I clip the values of a numpy array to an interval?

""",
    single="Passage: {passage}\nKind: {kind}\nTask:",
)
"""A task and a query, written together (Gecko, section 3.2)."""

LIKELIHOOD = Prompt(
    shared="""\
Passages, each with a query that it answers.

Passage: Vinegar lowers the pH of the water, so the whites of poached eggs set faster. A tablespoon a litre is enough.
Query: why do you put vinegar in the water for poached eggs

Passage: bisect.insort(a, x) Insert item x in list a, and keep it sorted assuming a is sorted.
Query: add element to sorted list without sorting again

Passage: The Vasa sank in Stockholm harbour on its maiden voyage in 1628, after little more than a kilometre.
Query: The Vasa sank on its first journey.

""",
    single="Passage: {passage}\nQuery:",
)
"""Query likelihood: the query is scored as what follows (Gecko, section 3.3)."""

RELEVANCE = Prompt(
    shared="""\
Does the passage answer the query?

Query: add element to sorted list without sorting again
Passage: bisect.insort(a, x) Insert item x in list a, and keep it sorted assuming a is sorted.
Answer: Yes

Query: why do you put vinegar in the water for poached eggs
Passage: Eggs keep for three weeks in a refrigerator. Those that float in cold water are old.
Answer: No

Query: list the files inside a folder of a zip archive
Passage: zipfile.Path.iterdir() Iterate over the children of the current directory of the archive.
Answer: Yes

Query: default timeout of a socket
Passage: socket.gethostbyname(host) Return the IP address, a string of the form 255.255.255.255, for a host.
Answer: No

""",
    single="Query: {query}\nPassage: {passage}\nAnswer:",
)
"""Relevance classification: the probability of a label, never free text (Gecko, section 3.3)."""

LABELS = (" Yes", " No")
"""Answers to `RELEVANCE`; the first is the one whose log-probability is kept."""
