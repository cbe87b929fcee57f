"""How often search puts the right page first, or in the top three: `python -m examples.finqa.search_accuracy DIR`.

Every question's own text is the query; the index sees pages only.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from examples.finqa.corpus import Corpus, load_corpus
from examples.finqa.search import Embedder, EmbeddingError, SearchIndex, make_embedder


def search_accuracy(corpus: Corpus, embedder: Embedder | None = None) -> dict[str, float]:
    """`{"n", "top1", "top3"}`: the number of questions, and fractions of them in [0, 1]."""
    index = SearchIndex(corpus.pages, embedder)
    top1 = top3 = 0
    for question in corpus.questions:
        found = [path for path, _ in index.search(question.question, 3)]
        top1 += found[:1] == [question.path]
        top3 += question.path in found
    n = len(corpus.questions)
    return {"n": n, "top1": round(top1 / n, 4), "top3": round(top3 / n, 4)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures; 2 where the folder is missing, malformed or without questions."""
    parser = argparse.ArgumentParser(prog="search_accuracy", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder")
    parser.add_argument("--embedder", default="tfidf", help="tfidf, sentence-transformers:MODEL or openai:MODEL")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    try:
        corpus = load_corpus(options.folder)
        if not corpus.questions:
            raise ValueError(f"{options.folder}: no questions; expected questions.jsonl beside reports.jsonl")
        figures = search_accuracy(corpus, make_embedder(options.embedder))
    except (OSError, ValueError, EmbeddingError) as error:
        print(f"search_accuracy: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(figures))
    else:
        first, among_three = f"{figures['top1']:.1%}", f"{figures['top3']:.1%}"
        print(f"{figures['n']} questions: right page first {first}, in the top three {among_three}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
