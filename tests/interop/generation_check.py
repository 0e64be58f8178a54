"""Generated tokens of lorashard and of transformers: greedy, with a repetition penalty, and by beam search.

Usage: generation_check.py LORASHARD FOLDER SHARED
"""

import collections
import os
import shutil
import struct
import sys

import torch
from peft import LoraConfig, get_peft_model
from program import Program, Table
from tiny_models import gpt2, kBound, llama, load_model, logits_of, make_model
from tokenizers import Tokenizer

program, table = Program(sys.argv[1], sys.argv[2]), Table()
at = lambda *name: os.path.join(program.folder, *name)

kEnd = 256  # of a text, where bytes are tokens
kTokens = 40
# How lorashard is told, and transformers.
kWays = {
    "greedy": ([], {}),
    "repetition penalty 1.3": (["--repetition-penalty", 1.3], dict(repetition_penalty=1.3)),
    "3 beams": (["--beams", 3], dict(num_beams=3)),
    "4 beams, length penalty 0.3": (["--beams", 4, "--length-penalty", 0.3], dict(num_beams=4, length_penalty=0.3)),
    "4 beams, length penalty 2": (["--beams", 4, "--length-penalty", 2], dict(num_beams=4, length_penalty=2.0)),
    "5 beams, length penalty -1": (["--beams", 5, "--length-penalty", -1], dict(num_beams=5, length_penalty=-1.0)),
    "2 beams, repetition penalty 1.2": (
        ["--beams", 2, "--repetition-penalty", 1.2],
        dict(num_beams=2, repetition_penalty=1.2),
    ),
}
kPrompts = ["In the beginning", "x", "0, 1, 1, 2, 3, 5, 8,", "The end. The end. The", "ünï©ödé →"]


def generate(model, ids, end, tokens=kTokens, **how):
    made = model.generate(
        torch.tensor([ids]),
        max_new_tokens=tokens,
        do_sample=False,
        eos_token_id=end,
        pad_token_id=end,
        attention_mask=torch.ones(1, len(ids)),
        **how,
    )[0][len(ids) :].tolist()
    return made[: made.index(end)] if end in made else made


def ask(base, prompt, *options, tokens=kTokens):
    return program(f"generate --config job.ini --model.base {base} --tokens {tokens} --prompt", prompt, *options)


def closest_choice(model, ids, made):
    """The smallest distance of a taken token's logit to the next: within rounding either token would be right."""
    logits = logits_of(model, ids + made)[len(ids) - 1 : -1]
    best = logits.topk(2, dim=-1).values
    return float((best[:, 0] - best[:, 1]).min()) / max(1.0, float(logits.abs().max()))


def let_end(model):
    """The end of a text changes places with a token that the model makes, and not often: some texts end then."""
    prompts = [list(prompt.encode()) for prompt in kPrompts]
    made = collections.Counter(token for ids in prompts for token in generate(model, ids, kEnd)[kTokens // 4 :])
    rarely = [token for token, _ in reversed(made.most_common()) if not any(token in ids for ids in prompts)]
    with torch.no_grad():
        for embedding in (model.get_input_embeddings(), model.get_output_embeddings()):
            embedding.weight[[kEnd, rarely[0]]] = embedding.weight[[rarely[0], kEnd]]


def bytes_as_tokens(name, config, seed):
    """Output is then the tokens themselves, whatever they are."""
    model = make_model(config, seed)
    let_end(model)
    model.save_pretrained(at(name))
    program(f"import --from {name} --to {name}.h5")
    ended = 0
    for way, (options, keys) in kWays.items():
        pairs = []
        for prompt in kPrompts:
            ids = list(prompt.encode())
            expected = generate(model, ids, kEnd, **keys)
            ended += len(expected) < kTokens
            pairs.append((list(ask(f"{name}.h5", prompt, *options)[:-1]), expected))
        same = sum(found == expected for found, expected in pairs)
        table.equal(
            way,
            [f for f, _ in pairs],
            [e for _, e in pairs],
            f"{same} of {len(pairs)} texts, {sum(len(e) for _, e in pairs)} tokens",
        )
    table.row("texts that ended by themselves, and others", f"{ended}", 0 < ended < len(kWays) * len(kPrompts))
    made = [generate(model, list(p.encode()), kEnd) for p in kPrompts]
    table.apart(
        "closest choice of the greedy ones",
        min(closest_choice(model, list(p.encode()), m) for p, m in zip(kPrompts, made)),
        2 * kBound,
    )


def with_adapter(name):
    torch.manual_seed(8)
    model = get_peft_model(
        load_model(at(name)),
        LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=4, init_lora_weights=False, target_modules="all-linear"),
    )
    model.eval().save_pretrained(at("adapter"))
    with open(at("prompts.txt"), "w") as file:
        file.writelines(prompt + "\n" for prompt in kPrompts)
    job = f"generate --config job.ini --model.base {name}.h5 --adapter adapter --tokens {kTokens} --mesh.tensor 2"
    found = program(f"{job} --prompts prompts.txt", ranks=2)  # printed, as a file would have U+FFFD for what is no UTF-8
    in_lines = bytes.maketrans(b"\r\n", b"  ")
    expected = b"".join(bytes(generate(model, list(p.encode()), kEnd)).translate(in_lines) + b"\n" for p in kPrompts)
    table.equal("greedy", found, expected, f"{len(expected)} bytes")


def with_tokenizer(name, vocabulary, config, end, seed):
    make_model(config, seed).save_pretrained(at(name))
    model = load_model(at(name))
    program(f"import --from {name} --to {name}.h5")
    os.makedirs(at(f"{name}.vocab"))
    shutil.copy(os.path.join(vocabulary, "tokenizer.json"), at(f"{name}.vocab"))
    with open(at(f"{name}.vocab", "tokenizer_config.json"), "w") as file:
        file.write(f'{{"eos_token": "{end}"}}')
    tokenizer = Tokenizer.from_file(at(f"{name}.vocab", "tokenizer.json"))
    for way in ("greedy", "repetition penalty 1.3", "3 beams"):
        options, keys = kWays[way]
        found, expected = [], []
        for prompt in kPrompts:
            made = generate(model, tokenizer.encode(prompt).ids, tokenizer.token_to_id(end), **keys)
            found.append(
                ask(f"{name}.h5", prompt, "--vocab", f"{name}.vocab", *options)[:-1].decode("utf-8", "replace")
            )
            expected.append(tokenizer.decode(made))
        table.equal(way, found, expected, f"{len(expected)} texts, {sum(map(len, expected))} characters")


def stories(folder):
    """A trained model of llama2.c, given to transformers by `export`, which reorders what positions turn."""
    program("import --to stories.h5 --from", f"{folder}/stories260K.bin")
    program("export --from stories.h5 --to stories")
    with open(f"{folder}/tok512.bin", "rb") as file:
        content, tokens, place = file.read(), [], 4
    while place < len(content):
        length = struct.unpack_from("<i", content, place + 4)[0]
        tokens.append(content[place + 8 : place + 8 + length])
        place += 8 + length
    byte = {f"<0x{b:02X}>".encode(): bytes([b]) for b in range(256)}
    model = load_model(at("stories"))
    begin, end = 1, 2
    for way, (options, keys) in kWays.items():
        made = generate(model, [begin], end, tokens=120, **keys)
        text = b"".join(byte.get(tokens[id], tokens[id]) for id in made).removeprefix(b" ")
        table.equal(
            way,
            ask("stories.h5", "", "--vocab", f"{folder}/tok512.bin", *options, tokens=120)[:-1],
            text,
            f"{len(made)} tokens",
        )


def main():
    shared = sys.argv[3]
    with open(at("job.ini"), "w") as file:
        file.write("[device]\nthreads = 1\n")
    table.section(
        "gpt2, bytes as tokens", bytes_as_tokens, "gpt2-bytes", gpt2(vocab_size=257, tie_word_embeddings=False), 5
    )
    table.section("llama, bytes as tokens", bytes_as_tokens, "llama-bytes", llama(vocab_size=257), 6)
    table.section("with an adapter beside the base, on 2 ranks, several prompts together", with_adapter, "llama-bytes")
    if os.path.isdir(shared):
        table.section(
            "gpt2, text",
            with_tokenizer,
            "gpt2-text",
            f"{shared}/vocab/gpt2",
            gpt2(vocab_size=50257),
            "<|endoftext|>",
            7,
        )
        table.section(
            "llama, text",
            with_tokenizer,
            "llama-text",
            f"{shared}/vocab/made/llama3_style",
            llama(vocab_size=1200),
            "<|end_of_text|>",
            8,
        )
        table.section("stories260K, exported to transformers", stories, f"{shared}/models/stories260K")
    else:
        print(f"\n{shared} is not here: neither GPT-2's vocabulary nor a trained model was tried")
    return table.finish()


sys.exit(main())
