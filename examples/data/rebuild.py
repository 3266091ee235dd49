"""Make the glosses in this folder again from Debian's ``wordnet-base``.

Give it the unpacked package's ``usr/share/wordnet``, or nothing where the package is installed::

    apt-get download wordnet-base && dpkg-deb -x wordnet-base_*.deb unpacked
    python examples/data/rebuild.py unpacked/usr/share/wordnet

The format of the files it reads is that of wndb(5WN).
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).parent
TOPICS = {"11": "event", "21": "possession", "28": "time"}  # file numbers of lexnames(5WN)


@dataclass(frozen=True)
class Gloss:
    """One meaning of a noun."""

    id: str
    term: str
    synonyms: str
    part_of_speech: str
    topic: str
    gloss: str


def read_glosses(nouns: Path) -> Iterator[Gloss]:
    """The nouns of our topics, in WordNet's order."""
    for line in nouns.read_text(encoding="ascii").splitlines():
        if line.startswith(" "):  # the license, at the head of the file
            continue
        data, _, gloss = line.partition(" | ")
        offset, topic, _, word_count, *rest = data.split(" ")
        if topic not in TOPICS:
            continue
        words = [word.replace("_", " ") for word in rest[: 2 * int(word_count, 16) : 2]]
        yield Gloss(
            id=f"wn30-{offset}-n",
            term=words[0],
            synonyms="; ".join(words[1:]),
            part_of_speech="noun",
            topic=TOPICS[topic],
            gloss=gloss.strip(),
        )


def main(wordnet: Path) -> None:
    glosses = list(read_glosses(wordnet / "data.noun"))
    columns = [field.name for field in fields(Gloss)]
    for topic in TOPICS.values():
        with (HERE / f"{topic}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(asdict(gloss) for gloss in glosses if gloss.topic == topic)
    table = pa.Table.from_pylist([asdict(gloss) for gloss in glosses])
    pq.write_table(table, HERE / "glosses.parquet", row_group_size=1_000, compression="zstd")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "/usr/share/wordnet"))
