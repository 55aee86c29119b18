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
    """What is said of one passage, pair or task; names in braces are filled in."""

    @property
    def digest(self) -> str:
        """Names the prompt in the tables that it made."""
        return hashlib.sha256((self.shared + "\0" + self.single).encode()).hexdigest()[:16]

    def filled(self, **fields: str) -> str:
        """The part that differs, for one passage, pair or task; line breaks inside a field become spaces.

        A passage is data: it cannot open a field of its own, since fields start lines.
        """
        # One pass, so that a passage that contains "{query}" stays as it is.
        return re.sub(r"\{(\w+)\}", lambda found: _line(fields[found[1]]), self.single)


def _line(text: str) -> str:
    return " ".join(text.split())


def begun(text: str, prompt: str) -> str:
    """What was written after the prompt's last line, which models that chat like to say again."""
    last = prompt.rpartition("\n")[2].strip()
    return text.lstrip().removeprefix(last) if text.lstrip().startswith(last) else text


KINDS = ("question answering", "fact checking", "search result", "sentence similarity")
"""Kinds of task that a query is written for, sampled uniformly (Gecko, arXiv 2403.20327, sections 3.2 and 4.4)."""


@dataclass(frozen=True)
class Written:
    """A passage with the task and the query that a person wrote for it."""

    passage: str
    kind: str
    task: str
    query: str


@dataclass(frozen=True)
class Writing:
    """How a language model is asked for a task and a query, together: one fixed prompt for all (Gecko, section 3.2)."""

    about: str = "Each passage has a task and a query. The query uses the words and the subject of its own passage."
    """What is wanted, before the examples."""
    examples: tuple[Written, ...] = (
        Written(
            "bisect.insort If x is already in a, insert it to the right of the rightmost x. The list a must be sorted.",
            "search result",
            "Given search words, find the function that is wanted.",
            "insert item x into a sorted list with bisect insort",
        ),
        Written(
            "socket.setdefaulttimeout A value of None means that new socket objects have no timeout.",
            "sentence similarity",
            "Given a sentence, find a passage that says the same.",
            "When the default timeout is None, new sockets never time out.",
        ),
        Written(
            "The Vasa sank in Stockholm harbour on its maiden voyage in 1628. The ship was too tall for its ballast.",
            "fact checking",
            "Given a claim, find a passage that supports or refutes it.",
            "The ship Vasa sank in Stockholm in the year 1628.",
        ),
        Written(
            "numpy.clip Values outside the interval are set to its edges. a: array_like, the array that holds the "
            "elements to clip.",
            "question answering",
            "Given a programming question, find the documentation that answers it.",
            "how do I clip the values of a numpy array to an interval?",
        ),
    )
    """A few of each kind, from texts like those at hand: a small model writes what they show."""
    kinds: tuple[str, ...] = KINDS
    """Kinds of task, in words; one is drawn for each passage."""

    @property
    def prompt(self) -> Prompt:
        """What is said."""
        shown = "".join(
            f"Passage: {_line(each.passage)}\nKind: {_line(each.kind)}\nTask: {_line(each.task)}\n"
            f"Query: {_line(each.query)}\n\n"
            for each in self.examples
        )
        return Prompt(f"{_line(self.about)}\n\n{shown}", "Passage: {passage}\nKind: {kind}\nTask:")


@dataclass(frozen=True)
class Answered:
    """A passage with a query that it answers."""

    passage: str
    query: str


@dataclass(frozen=True)
class Rated:
    """A query, a passage, and whether the one answers the other."""

    query: str
    passage: str
    answers: bool


LABELS = (" Yes", " No")
"""Answers to the question of relevance; the first is the one whose log-probability is kept."""


@dataclass(frozen=True)
class Judging:
    """How a language model is asked for its judgement (Gecko, section 3.3)."""

    likelihood: tuple[Answered, ...] = (
        Answered(
            "Vinegar lowers the pH of the water, so the whites of poached eggs set faster. A tablespoon a litre is "
            "enough.",
            "why do you put vinegar in the water for poached eggs",
        ),
        Answered(
            "bisect.insort(a, x) Insert item x in list a, and keep it sorted assuming a is sorted.",
            "add element to sorted list without sorting again",
        ),
        Answered(
            "The Vasa sank in Stockholm harbour on its maiden voyage in 1628, after little more than a kilometre.",
            "The Vasa sank on its first journey.",
        ),
    )
    """Examples of query likelihood: the query is scored as what follows the passage."""
    relevance: tuple[Rated, ...] = (
        Rated(
            "add element to sorted list without sorting again",
            "bisect.insort(a, x) Insert item x in list a, and keep it sorted assuming a is sorted.",
            answers=True,
        ),
        Rated(
            "why do you put vinegar in the water for poached eggs",
            "Eggs keep for three weeks in a refrigerator. Those that float in cold water are old.",
            answers=False,
        ),
        Rated(
            "list the files inside a folder of a zip archive",
            "zipfile.Path.iterdir() Iterate over the children of the current directory of the archive.",
            answers=True,
        ),
        Rated(
            "default timeout of a socket",
            "socket.gethostbyname(host) Return the IP address, a string of the form 255.255.255.255, for a host.",
            answers=False,
        ),
    )
    """Examples of relevance classification: the probability of a label, never free text."""

    @property
    def asks_likelihood(self) -> Prompt:
        """What the query is scored after."""
        shown = "".join(f"Passage: {_line(each.passage)}\nQuery: {_line(each.query)}\n\n" for each in self.likelihood)
        return Prompt(f"Passages, each with a query that it answers.\n\n{shown}", "Passage: {passage}\nQuery:")

    @property
    def asks_relevance(self) -> Prompt:
        """What the label is read after."""
        shown = "".join(
            f"Query: {_line(each.query)}\nPassage: {_line(each.passage)}\nAnswer:{LABELS[not each.answers]}\n\n"
            for each in self.relevance
        )
        about = "Does the passage answer the query?\n\n"
        return Prompt(about + shown, "Query: {query}\nPassage: {passage}\nAnswer:")


BRAINSTORM = Prompt(
    shared="""\
Lists of tasks for a program that embeds texts. A task is one sentence that says what is given and what is wanted. \
No two tasks of a list are about one subject.

""",
    single="{about}\nTask: {first}\nTask: {second}\nTask: {third}\nTask:",
)
"""Tasks for which examples are then made up (E5-Mistral, arXiv 2401.00368, section 3.1, first step)."""

SHORT_LONG = Prompt(
    shared="""\
For each task a query, a document that answers it, and a document on the same subject that is less useful. The \
documents do not repeat the query's words and do not speak of the query.

Task: Given a gardening problem, find advice that solves it.
Query wanted: common, 5 to 15 words, clear. Documents: about 50 words, high school level. Language: English.
Query: white powder on the leaves of my cucumber plants
Positive: Mildew grows where air stands still. Cut out a third of the foliage, water the soil and not the plant, and \
spray one part of milk in nine parts of water once a week. Badly covered growth should be burnt; in a compost heap \
its spores live through the winter.
Negative: Cucumbers need warm soil. Sow them two centimetres deep in May, a metre apart, and lead the shoots along a \
net so that the fruit hangs free. Regular watering keeps them from turning bitter, and picking early makes the plant \
bear for longer.

Task: Given a clause of a contract, find a court decision that interprets such a clause.
Query wanted: long-tail, at least 10 words, understandable with some effort. Documents: about 50 words, college \
level. Language: English.
Query: supplier may adjust prices for raw material cost, buyer was told afterwards
Positive: The tribunal held that a right to raise what is charged must name its measure. A party that learns of the \
change only from the invoice could not have left the agreement in time; the increase was therefore void, and the \
earlier rate was owed for all deliveries made up to the notice.
Negative: The court confirmed that late delivery entitles the purchaser to withdraw once a reasonable period has \
been set. A fixed date in the order makes that period unnecessary. Damages were denied, as the loss of profit had \
been excluded in the general terms that both sides had signed.

""",
    single="Task: {task}\nQuery wanted: {kind}, {length}, {clarity}. Documents: about {words} words, {level} level. "
    "Language: {language}.\nQuery:",
)
"""A short query with two long documents (E5-Mistral, second step)."""

LONG_SHORT = Prompt(
    shared="""\
For each task a text, its right label, and a label that is wrong but might be given. The labels' words are not in \
the text.

Task: Identify which department of a hotel a guest's message concerns.
Text wanted: clear, about 50 words, high school level. Language: English.
Query: We have been in 412 since Sunday and nobody has changed the towels. Yesterday the bin was still full when we \
came back from the beach at six, and the carpet has sand on it from whoever stayed before us.
Positive: housekeeping
Negative: maintenance

Task: Tell the author's attitude towards a scientific claim.
Text wanted: understandable with some effort, about 50 words, college level. Language: English.
Query: Twelve mice, one laboratory, no blinding: on this we are to rest a theory of ageing. The effect may be there. \
But whoever sells supplements on the strength of it has read the abstract and not the methods.
Positive: sceptical
Negative: supportive

""",
    single="Task: {task}\nText wanted: {clarity}, about {words} words, {level} level. Language: {language}.\nQuery:",
)
"""A long text with a right and a misleading label (E5-Mistral, second step)."""

SHORT_SHORT = Prompt(
    shared="""\
For each task two short texts that match. They have few words in common.

Task: Given a symptom, find the name of an illness.
Language: English.
Query: a stabbing pain in the big toe, at night, after a feast
Positive: acute gout

Task: Match a film's plot with its kind.
Language: English.
Query: two thieves plan one last robbery of a casino
Positive: heist comedy

""",
    single="Task: {task}\nLanguage: {language}.\nQuery:",
)
"""Two short texts that match (E5-Mistral, second step)."""

LONG_LONG = Prompt(
    shared="""\
For each task two long texts that match. They have few words in common, and neither speaks of the other.

Task: Given an argument, find an argument against it.
Texts wanted: about 50 words, high school level. Language: English.
Query: Schools should begin at nine. Teenagers fall asleep late whatever their parents say, and a first lesson in \
the dark teaches nobody anything. Where the bell was moved back an hour, marks rose and fewer pupils had accidents \
on their way.
Positive: A later start only moves the problem. Parents leave for work at the same time as ever, buses are already \
full in the middle of the morning, and training and music would end after dusk. Young people who could sleep longer \
would simply go to bed later.

""",
    single="Task: {task}\nTexts wanted: about {words} words, {level} level. Language: {language}.\nQuery:",
)
"""Two long texts that match (E5-Mistral, second step)."""

STS = Prompt(
    shared="""\
Three texts each. How alike two of them are goes from 1, unrelated, to 5, the same in other words.

Texts wanted: a sentence each, elementary level. First and second: 4.5. First and third: 2.5. Language: English.
Query: A boy throws a stick for his dog on the beach.
Positive: On the sand, a child plays fetch with a dog.
Negative: A boy builds a castle on the beach.

Texts wanted: a phrase each, college level. First and second: 4. First and third: 3. Language: English.
Query: rising cost of borrowing
Positive: higher interest rates
Negative: growing public debt

""",
    single="Texts wanted: a {unit} each, {level} level. First and second: {high}. First and third: {low}. "
    "Language: {language}.\nQuery:",
)
"""Three texts, two of them alike (E5-Mistral, symmetric group)."""
