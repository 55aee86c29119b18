"""From a large embedder to a small one: teacher, data, student, export, measured on the way."""

__version__ = "0.1.0"
