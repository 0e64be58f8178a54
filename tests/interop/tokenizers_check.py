"""Ids of lorashard against those of Hugging Face's tokenizers: 10 MB of mixed text, short rows, and broken UTF-8.

Usage: tokenizers_check.py LORASHARD FOLDER SHARED
"""

import json
import os
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # both on one core

import h5py
import numpy
import tokenizers
from mixed_text import MixedText
from program import Program, Table
from tokenizers import Tokenizer

program, table = Program(sys.argv[1], sys.argv[2]), Table()
at = lambda *name: os.path.join(program.folder, *name)

kEnds = {
    "made/llama2_style": "</s>",
    "made/llama3_style": "<|end_of_text|>",
    "made/qwen_style": "<|endoftext|>",
    "gpt2": "<|endoftext|>",
}

kBroken = "80 bf c080 c1bf c3 c328 e282 e228a1 e08080 e09fbf eda080 edbfbf eda0bdedb880 f09f98 f0808080 f08fbfbf"
kBroken = [
    bytes.fromhex(word) for word in (kBroken + " f4908080 f5808080 f888808080 fc8480808080 fe ff fffe f09f9841").split()
]


class Vocabulary:
    def __init__(self, shared, name):
        self.name, self.folder = name, name.replace("/", "-")
        with open(os.path.join(shared, "vocab", name, "tokenizer.json"), encoding="utf-8") as file:
            content = file.read()
        os.makedirs(at(self.folder))
        with open(at(self.folder, "tokenizer.json"), "w", encoding="utf-8") as file:
            file.write(content)
        with open(at(self.folder, "tokenizer_config.json"), "w") as file:
            json.dump({"eos_token": kEnds[name]}, file)
        self.theirs = self.made(content)
        self.end = self.theirs.token_to_id(kEnds[name])
        # What follows another text has no mark of a word's beginning put before it.
        follows = json.loads(content)
        steps = (follows["normalizer"] or {}).get("normalizers", [])
        if steps and steps[0]["type"] == "Prepend":
            follows["normalizer"]["normalizers"] = steps[1:]
        self.follows = self.made(json.dumps(follows))
        self.front = self.theirs.encode("").ids

    @staticmethod
    def made(content):
        tokenizer = Tokenizer.from_str(content)
        tokenizer.encode_special_tokens = True  # as lorashard has it: markers inside data stay text
        return tokenizer

    def of_text(self, text):
        return self.theirs.encode(text, add_special_tokens=False).ids

    def of_row(self, prompt, completion):
        return (
            self.front
            + self.of_text(prompt)
            + self.follows.encode(completion, add_special_tokens=False).ids
            + [self.end]
        )


def tokenized(folder, file, to, *options):
    """Documents of ids, and the seconds that it took."""
    start = time.perf_counter()
    program(f"tokenize --from {file} --vocab {folder} --to {to}", *options)
    seconds = time.perf_counter() - start
    with h5py.File(at(to)) as content:
        tokens, offsets = content["tokens"][:], content["offsets"][:]
    return numpy.split(tokens, offsets[1:-1]), seconds


def first_difference(found, expected, tokenizer):
    shortest = min(len(found), len(expected))
    differs = numpy.flatnonzero(numpy.asarray(found[:shortest]) != numpy.asarray(expected[:shortest]))
    place = int(differs[0]) if len(differs) else shortest
    near = slice(max(0, place - 3), place + 5)
    ours, theirs = [int(id) for id in found[near]], [int(id) for id in expected[near]]
    return (
        f"{len(found)} ids and {len(expected)}, first difference at {place}: found {ours}, expected {theirs}, around "
        f"{tokenizer.decode(theirs, skip_special_tokens=False)!r}"
    )


def check_texts(vocabulary, texts):
    """Each text a file of its own, and a document as it comes."""
    _, idle = tokenized(vocabulary.folder, "short.txt", "short.h5", "--format", "text")
    ours, theirs, count, problem = 0.0, 0.0, 0, None
    for number, text in enumerate(texts):
        documents, seconds = tokenized(vocabulary.folder, f"text{number}.txt", "text.h5", "--format", "text")
        ours += seconds - idle
        start = time.perf_counter()
        expected = vocabulary.of_text(text)
        theirs += time.perf_counter() - start
        expected = vocabulary.front + expected + [vocabulary.end]
        count += len(expected)
        if problem is None and (len(documents) != 1 or documents[0].tolist() != expected):
            problem = f"text {number}: " + first_difference(documents[0], expected, vocabulary.theirs)
    told = f"{count:,} ids; {ours:.1f} s, theirs {theirs:.1f} s, {theirs / ours:.2f} times as fast"
    table.row(f"{len(texts)} long texts", problem or told, problem is None)


def check_rows(vocabulary, rows):
    documents, _ = tokenized(vocabulary.folder, "rows.jsonl", "rows.h5")
    expected = [vocabulary.of_row(*row) for row in rows]
    wrong = [i for i, (d, e) in enumerate(zip(documents, expected)) if d.tolist() != e]
    problem = None
    if wrong:
        first = wrong[0]
        problem = f"row {first} of {len(wrong)}: "
        problem += first_difference(documents[first], expected[first], vocabulary.theirs)
    table.row(
        f"{len(rows)} rows of prompt and completion",
        problem or f"{sum(map(len, expected)):,} ids",
        not problem and len(documents) == len(rows),
    )


def check_broken(vocabulary, turn):
    """What is no UTF-8 is refused with the place that Python's decoder names; in other surroundings each turn."""
    surroundings = ((b"", b""), (b"plain ", b" text"), ("\u4e2d\U0001f600\n".encode(), b"A"))
    wrong = []
    for number, broken in enumerate(kBroken):
        before, after = surroundings[(number + turn) % len(surroundings)]
        content = before + broken + after
        try:
            content.decode("utf-8")
            raise AssertionError(content)
        except UnicodeDecodeError as error:
            place = error.start
        with open(at("broken.txt"), "wb") as file:
            file.write(content)
        line = program.refusal(f"tokenize --from broken.txt --vocab {vocabulary.folder} --to broken.h5 --format text")
        if f"not UTF-8 at byte {place}:" not in line or "broken.txt" not in line:
            wrong.append((content, place, line))
    table.equal("broken UTF-8 refused by file and byte", wrong[:2], [], f"{len(kBroken)} texts")


def check_bytes():
    """Without a vocabulary any file will do."""
    everything = bytes(range(256)) + b"".join(kBroken) + bytes(reversed(range(256)))
    with open(at("bytes.bin"), "wb") as file:
        file.write(everything)
    program("tokenize --from bytes.bin --to bytes.h5 --format text")
    with h5py.File(at("bytes.h5")) as content:
        found = content["tokens"][:].tolist()
    table.equal("bytes as tokens: every value, broken UTF-8", found, [*everything, 256], f"{len(everything)} bytes")


def check_two_files(folder):
    """encoder.json and vocab.bpe in place of tokenizer.json."""
    os.makedirs(at("two"))
    for name in ("encoder.json", "vocab.bpe"):
        os.symlink(os.path.join(folder, name), at("two", name))
    same = []
    for number in (0, 4, 9):
        ids = [
            tokenized(vocabulary, f"text{number}.txt", "text.h5", "--format", "text")[0][0]
            for vocabulary in ("gpt2", "two")
        ]
        same.append(numpy.array_equal(*ids))
    table.equal("the ids of three long texts", same, [True] * 3, "as with tokenizer.json")


def check_vocabulary(vocabulary, texts, rows, turn):
    check_texts(vocabulary, texts)
    check_rows(vocabulary, rows)
    check_broken(vocabulary, turn)


def write_files(texts, rows):
    for number, text in enumerate(texts):
        with open(at(f"text{number}.txt"), "wb") as file:
            file.write(text.encode())
    with open(at("short.txt"), "w") as file:
        file.write("x")
    with open(at("rows.jsonl"), "w", encoding="utf-8") as file:
        for number, (prompt, completion) in enumerate(rows):
            file.write(json.dumps({"prompt": prompt, "completion": completion}, ensure_ascii=number % 2 == 0) + "\n")


def main():
    shared = sys.argv[3]
    if not os.path.isdir(shared):
        raise SystemExit(f"{shared} is not here, which has the vocabularies")
    print(f"tokenizers {tokenizers.__version__}")
    source = MixedText(11)
    texts = source.texts(10_000_000, 10)
    rows = [(source.piece() or "x", source.piece() + source.piece() or "y") for _ in range(20_000)]
    rows += [
        (p, c)
        for p, c in (
            (" ", " "),
            ("\u2581", "\u2581"),
            ("a", " b"),
            ("a ", "b"),
            ("'", "s"),
            ("\n", "\n"),
            ("e", "\u0301"),
        )
    ]
    write_files(texts, rows)
    check_bytes()
    for turn, name in enumerate(kEnds):
        table.section(name, check_vocabulary, Vocabulary(shared, name), texts, rows, turn)
    table.section("GPT-2's two files", check_two_files, os.path.join(shared, "vocab/gpt2"))
    return table.finish()


sys.exit(main())
