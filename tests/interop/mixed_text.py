"""Ten megabytes of text that tokenizers trip over, the same for the same seed."""

import random
import unicodedata
from pathlib import Path

# The last nine look like white space and are none for most.
kSpaces = [chr(c) for c in (*range(0x9, 0xE), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F)]
kSpaces += [*"\u205f\u3000\x1c\x1d\x1e\x1f\u180e\u200b\u200c\u2060\ufeff"]
kContractions = (
    "'s 'S 't 'T 're 'Re 'rE 'VE 've 'm 'M 'll 'LL 'lL 'd 'D '\u017f 'x \u2019s \u2019ll ''s '\u212a 'r 'v".split()
)
kMarkers = (
    "<|endoftext|> <|begin_of_text|> <|end_of_text|> <|eot_id|> <|im_start|> <|im_end|> <s> </s> <unk> <0x0A> <0xFF> "
)
kMarkers = (kMarkers + "\u2581 \u2581\u2581 \u0120 \u010a <| |> <|im_ [INST] [/INST] <<SYS>>").split()
kEmoji = "\U0001f468\U0001f469\U0001f466\U0001f467\U0001f3f3\U0001f3f4\U0001f9d1\u2764\U0001f525\U0001f44d\U0001f600"
kEmoji += "\u2640\u2642"
kCode = r"""() {} [] ; :: -> => != == // /* */ # " ' ` ``` 0x1F 1e-5 3.14 i++ && || << >> \n \ $x @decorator <div> %s"""
kCode = kCode.split() + ["    ", "\t", "\t\t", "        ", "\n"]


class MixedText:
    def __init__(self, seed):
        self.random = random.Random(seed)
        characters = [chr(c) for c in (*range(0xD800), *range(0xE000, 0x110000))]
        self.marks = [c for c in characters if unicodedata.category(c).startswith("M")]
        self.numbers = [c for c in characters if unicodedata.category(c).startswith("N")]
        self.blocks = [
            range(first, first + 128)
            for first in (
                *range(0, 0xD800, 128),
                *range(0xE000, 0x34000, 128),
                *range(0xE0000, 0xE0200, 128),
                0xF0000,
                0x10FF80,
            )
        ]
        programs = sorted(Path(random.__file__).parent.glob("*.py"))[:40]
        self.sources = [path.read_text(encoding="utf-8") for path in programs]

    def pick(self, things):
        return self.random.choice(things)

    def every_character(self):
        """Each code point of the planes that have characters once, in words of its neighbours."""
        for block in self.blocks:
            characters = [chr(c) for c in block]
            self.random.shuffle(characters)
            while characters:
                n = self.random.randint(1, 9)
                yield "".join(characters[:n]) + self.pick([" ", " ", "\n", "", "  ", "-"])
                characters = characters[n:]

    def words(self):
        """Of one script's part, again and again, as text has it."""
        block = self.pick(self.blocks)
        some = ["".join(chr(self.pick(block)) for _ in range(self.random.randint(1, 8))) for _ in range(12)]
        return self.pick([" ", " ", " ", "\n", ", "]).join(self.pick(some) for _ in range(self.random.randint(5, 40)))

    def letters(self):
        words = [
            "".join(self.pick("etaoinshrdlucmfwypvbgkjqxz") for _ in range(self.random.randint(1, 9))) for _ in range(8)
        ]
        return " ".join(
            self.pick((str, str.upper, str.capitalize))(word) + self.pick(["", "", "", *kContractions])
            for word in words
        )

    def digits(self):
        return "".join(
            self.pick("0123456789" if self.random.random() < 0.7 else self.numbers)
            for _ in range(self.random.randint(1, 20))
        )

    def spaces(self):
        if self.random.random() < 0.5:
            return self.pick(" \n\t\r") * self.random.randint(1, 30)
        return "".join(self.pick(kSpaces) for _ in range(self.random.randint(1, 12)))

    def emoji(self):
        joints = ["\u200d", "\ufe0f\u200d", "\U0001f3fd", "\ufe0f", "", "\U0001f1e9\U0001f1ea"]
        more = [self.pick(joints) + self.pick(kEmoji) for _ in range(self.random.randint(0, 4))]
        return self.pick(kEmoji) + "".join(more)

    def stacked(self):
        """A letter under marks in no order that a normal form would leave; Hangul in parts."""
        if self.random.random() < 0.3:
            return "".join(chr(self.random.randint(0x1100, 0x11FF)) for _ in range(self.random.randint(2, 6)))
        base = self.pick("aeiouAEIOUcnszyw\u03b1\u03c9\u0438\u0627\u0915\u1100\uac00\u304b")
        return base + "".join(self.pick(self.marks) for _ in range(self.random.randint(1, 6)))

    def code(self):
        return "".join(self.pick(kCode) for _ in range(self.random.randint(2, 12)))

    def prose(self):
        """What people wrote: programs, with their comments."""
        source = self.pick(self.sources)
        start = self.random.randrange(max(1, len(source) - 2000))
        return source[start : start + self.random.randint(200, 2000)]

    def any_characters(self):
        return "".join(chr(self.pick(self.pick(self.blocks))) for _ in range(self.random.randint(1, 12)))

    def controls(self):
        return "".join(chr(self.random.randrange(0xA0)) for _ in range(self.random.randint(1, 12)))

    def piece(self):
        kinds = [self.words, self.letters, self.letters, self.digits, self.spaces, self.emoji, self.stacked, self.code]
        kinds += [self.any_characters, self.controls, lambda: self.pick(kMarkers), lambda: self.pick(kContractions)]
        return self.pick(kinds)() + self.pick(["", "", " ", " ", "\n", "."])

    def texts(self, bytes_in_all, count):
        """`count` texts, as many bytes in all. The first have every character; the last, long runs of one thing."""
        size = bytes_in_all // count
        pending = self.every_character()
        texts = []
        for number in range(count - 1):
            pieces, length = [], 0
            while length < size:
                pieces.append(next(pending, "") if self.random.random() < 0.7 else "")
                prose = number % 3 == 2 and self.random.random() < 0.5
                pieces[-1] = pieces[-1] or (self.prose() if prose else self.piece())
                length += len(pieces[-1].encode())
            texts.append("".join(pieces))
        assert next(pending, None) is None, "some characters are in no text"
        texts[1] = "\ufeff" + texts[1]
        texts[2] = " " + texts[2]
        return texts + ["".join(self.runs(size))]

    def runs(self, size):
        things = (
            "a 7 ! \u00e9 e\u0301 \u0301 \u4e2d \u0661 \U0001f600 ab 's \u2581 \u1100\u1161 \x00 \u200d = 0a".split(" ")
        )
        things += [" ", "\n", "\u00a0", " a", "\r\n", " \n", "\t "]
        for thing in things:
            yield thing * (size // len(things) // len(thing.encode())) + "."
