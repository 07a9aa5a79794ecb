"""Which texts of one set also stand in another, word for word or nearly: a model that has seen a test text in training
may remember it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, vstack
from sklearn.feature_extraction.text import HashingVectorizer

BoolArray = NDArray[np.bool_]

WORDS_PER_SHINGLE = 3
FEWEST_WORDS = 5
# Two different shingles share one of 2**30 hash values so rarely that no count below is moved by it.
_HASH_VALUES = 2**30
_TEXTS_AT_ONCE = 10_000
_PAIRS_AT_ONCE = 10_000_000


@dataclass(frozen=True)
class Overlap:
    """Per test text, in the order given: `exact` where the same text stands in train, `near` where only a nearly equal
    one does.
    """

    exact: BoolArray
    near: BoolArray

    @property
    def either(self) -> BoolArray:
        """Exact or near."""
        return self.exact | self.near


def normalise(text: str) -> str:
    """The text's words alone: Unicode form NFKC, case folded, punctuation and symbols read as spaces, single spaces
    between words.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(
        "".join(character if unicodedata.category(character)[0] in "LMN" else " " for character in folded).split()
    )


def text_overlap(test: Sequence[str], train: Sequence[str], similarity: float = 0.8) -> Overlap:
    """Which test texts stand in train, exactly or nearly; see `OverlapSearch`."""
    search = OverlapSearch(test, similarity)
    for start in range(0, len(train), _TEXTS_AT_ONCE):
        search.add(train[start : start + _TEXTS_AT_ONCE])
    return search.result()


class OverlapSearch:
    """Which test texts stand in train, exactly or nearly, where train comes in portions.

    Near is: not exact, and the same normalised text (see `normalise`; one without any word is near to nothing), or a
    resemblance of at least `similarity`, above 0 and at most 1. The resemblance of two texts is the Jaccard similarity
    of their sets of shingles, three consecutive normalised words (Broder 1997, "On the resemblance and containment of
    documents"): shared shingles by all shingles of both. It is computed in full, not estimated from a sketch. Texts of
    fewer than five words have too few shingles for it and are near only when their normalised texts are equal.

    Memory holds the test texts and, of the training texts that share enough shingles with all of them together, the
    shared ones, 8 bytes per text and shingle; the training texts themselves are not kept. Pairs of texts are compared
    in blocks of test texts whose shared shingles number at most 10 million (one text may have more: then it is a block
    of its own).
    """

    def __init__(self, test: Sequence[str], similarity: float = 0.8) -> None:
        self._test = test
        self._similarity = similarity
        self._words = [normalise(text) for text in test]
        self._texts_to_meet, self._words_to_meet = set(test), {words for words in self._words if words}
        self._texts_met: set[str] = set()
        self._words_met: set[str] = set()
        self._long_rows = np.array([row for row, words in enumerate(self._words) if _is_long(words)], dtype=np.intp)
        self._long_test = _shingle([self._words[row] for row in self._long_rows]) if len(self._long_rows) else None
        self._shingles = np.unique(self._long_test.matrix.indices) if self._long_test else np.empty(0, np.int32)
        self._train: list[_Shingled] = []

    def add(self, train: Sequence[str]) -> None:
        """Look at a portion of the training texts."""
        words = {normalise(text) for text in train}
        self._texts_met |= self._texts_to_meet.intersection(train)
        self._words_met |= self._words_to_meet & words
        long = sorted(text for text in words if _is_long(text))
        if long and self._long_test is not None:
            shingled = _shingle(long, self._shingles)
            self._train.append(shingled.take(_possible(shingled, self._similarity)))

    def result(self) -> Overlap:
        """The overlap with all portions so far."""
        exact = np.array([text in self._texts_met for text in self._test], dtype=np.bool_)
        near = np.array([words in self._words_met for words in self._words], dtype=np.bool_)
        is_open = ~(exact | near)[self._long_rows]
        if self._long_test is not None and self._train:
            first, second = self._long_test.take(np.flatnonzero(is_open)), _stacked(self._train)
            near[self._long_rows[is_open]] = _resembles(first, second, self._similarity)
        return Overlap(exact, near & ~exact)


def _is_long(text: str) -> bool:
    return text.count(" ") >= FEWEST_WORDS - 1


@dataclass(frozen=True)
class _Shingled:
    """Texts as rows of a 0/1 matrix over shingles; `sizes` is each text's number of different shingles, those dropped
    since included.
    """

    matrix: csr_matrix
    sizes: NDArray[np.int64]

    def take(self, rows: NDArray[np.intp]) -> _Shingled:
        return _Shingled(self.matrix[rows], self.sizes[rows])


def _stacked(parts: list[_Shingled]) -> _Shingled:
    matrix = vstack([part.matrix for part in parts], format="csr")
    return _Shingled(matrix, np.concatenate([part.sizes for part in parts]))


def _resembles(first: _Shingled, second: _Shingled, similarity: float) -> BoolArray:
    """Per text of the first set, whether any of the second has a resemblance of at least `similarity` with it."""
    found = np.zeros(len(first.sizes), dtype=np.bool_)
    if not len(first.sizes) or not len(second.sizes):
        return found
    first, second, rows = _only_possible(first, second, similarity)
    for start, end in _blocks(first.matrix, second.matrix):
        shared = (first.matrix[start:end] @ second.matrix.T).tocoo()
        both = first.sizes[start:end][shared.row] + second.sizes[shared.col] - shared.data
        found[rows[start:end][shared.row[shared.data >= similarity * both - 1e-6]]] = True
    return found


def _shingle(texts: list[str], kept: NDArray[np.int32] | None = None) -> _Shingled:
    """The texts' shingles; of the matrix's entries only those whose column is in `kept`, where it is given."""
    vectorizer = HashingVectorizer(
        ngram_range=(WORDS_PER_SHINGLE, WORDS_PER_SHINGLE),
        tokenizer=str.split,
        token_pattern=None,
        lowercase=False,
        norm=None,
        alternate_sign=False,
        binary=True,
        n_features=_HASH_VALUES,
        dtype=np.float32,
    )
    matrices, sizes = [], []
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        matrix = vectorizer.transform(texts[start : start + _TEXTS_AT_ONCE])
        sizes.append(np.diff(matrix.indptr).astype(np.int64))
        matrices.append(matrix if kept is None else _with_columns(matrix, kept))
    return _Shingled(vstack(matrices, format="csr"), np.concatenate(sizes))


def _with_columns(matrix: csr_matrix, columns: NDArray[np.int32]) -> csr_matrix:
    """The matrix with all entries outside these columns (sorted) taken out; columns keep their numbers."""
    is_kept = np.isin(matrix.indices, columns)
    row_ends = np.concatenate([[0], np.cumsum(is_kept)])[matrix.indptr]
    return csr_matrix((matrix.data[is_kept], matrix.indices[is_kept], row_ends), shape=matrix.shape)


def _only_possible(
    first: _Shingled, second: _Shingled, similarity: float
) -> tuple[_Shingled, _Shingled, NDArray[np.intp]]:
    """Both sets without the texts that can resemble none of the other set, and the positions in `first` of those that
    are left.

    A text shares at most as many shingles as the other set knows, and the union has at least its own number: where the
    quotient is below `similarity`, it is out. That takes shingles out of its set, so the sets are cut in turn until
    both stay. Columns are numbered anew.
    """
    rows = np.arange(len(first.sizes))
    while True:
        columns = np.intersect1d(first.matrix.indices, second.matrix.indices)
        first = _Shingled(_with_columns(first.matrix, columns), first.sizes)
        second = _Shingled(_with_columns(second.matrix, columns), second.sizes)
        stay = [_possible(part, similarity) for part in (first, second)]
        if len(stay[0]) == len(first.sizes) and len(stay[1]) == len(second.sizes):
            return _renumbered(first, columns), _renumbered(second, columns), rows
        first, second, rows = first.take(stay[0]), second.take(stay[1]), rows[stay[0]]


def _possible(texts: _Shingled, similarity: float) -> NDArray[np.intp]:
    """Positions of the texts of which so large a share of shingles stands in the other set, as the matrix has them."""
    return np.flatnonzero(np.diff(texts.matrix.indptr) >= similarity * texts.sizes - 1e-6)


def _renumbered(texts: _Shingled, columns: NDArray[np.int32]) -> _Shingled:
    """The same entries with the columns' positions for numbers, so that a transposed matrix needs no room for 2**30
    rows.
    """
    matrix = texts.matrix
    shape = (matrix.shape[0], max(len(columns), 1))
    return _Shingled(
        csr_matrix((matrix.data, np.searchsorted(columns, matrix.indices), matrix.indptr), shape=shape), texts.sizes
    )


def _blocks(first: csr_matrix, second: csr_matrix) -> Iterator[tuple[int, int]]:
    """(start, end) of consecutive rows of `first` which have at most _PAIRS_AT_ONCE shingles in common with rows of
    `second`, or are one row.
    """
    texts_with = np.bincount(second.indices, minlength=second.shape[1])
    pairs = np.concatenate([[0], np.cumsum(texts_with[first.indices])])[first.indptr]
    start = 0
    while start < first.shape[0]:
        end = max(int(np.searchsorted(pairs, pairs[start] + _PAIRS_AT_ONCE, side="right")) - 1, start + 1)
        yield start, end
        start = end
