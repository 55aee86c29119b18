"""Foreign text as rows: what `ingest` reads."""

from distill.readers.folders import BEIR, TextFolder
from distill.readers.python_docs import PythonDocs
from distill.readers.rows import Labelled, Pair, Passage, Reader, Retrieval, Row
from distill.readers.synthetic import Synthetic
from distill.readers.tabular import CSV, JSONL, Datasets, Parquet

__all__ = [
    "BEIR",
    "CSV",
    "JSONL",
    "Datasets",
    "Labelled",
    "Pair",
    "Parquet",
    "Passage",
    "PythonDocs",
    "Reader",
    "Retrieval",
    "Row",
    "Synthetic",
    "TextFolder",
]
