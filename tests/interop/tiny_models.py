"""Tiny models of every shape that the program imports, with random weights, and their answers to one row of tokens."""

import json
import os
import warnings

import numpy
import torch
import transformers
from transformers import GPT2Config, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

torch.set_num_threads(1)
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
warnings.simplefilter("ignore")  # of what the libraries will do in other versions
kVocabulary, kContext, kLength = 41, 64, 40

# A log-probability is one float32 number on either side, reached through some 30 sums in a row (3 layers of 7 products,
# 2 norms and a softmax each, the head). Each rounds by about eps = 1.2e-7 of the largest number taking part, and not
# by more as sums are short (80 terms, less than 10 eps if every rounding went the same way): 30 eps = 4e-6 on each
# side, 8e-6 between them. Numbers grow with the logits: the bound is for differences over the largest logit, or over 1
# where that is less.
kBound = 1e-5
# What makes a difference makes one that is far above.
kApart = 1e3 * kBound


def gpt2(**more):
    shape = dict(
        n_layer=2,
        n_embd=48,
        n_head=4,
        n_positions=kContext,
        vocab_size=kVocabulary,
        bos_token_id=0,
        eos_token_id=0,
        initializer_range=0.15,
    )
    return GPT2Config(**{**shape, **more})


def llama(make=LlamaConfig, **more):
    shape = dict(
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=kContext,
        vocab_size=kVocabulary,
        bos_token_id=0,
        eos_token_id=0,
        initializer_range=0.15,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
    )
    return make(**{**shape, **more})


def scaled(**scaling):
    """Rows of 40 tokens are longer than the context of 16 that was there first."""
    rope = {"rope_theta": 100.0, **scaling}
    return llama(hidden_size=64, num_attention_heads=4, rope_parameters=rope)


def kinds():
    """name -> (the model, what it would be without what is special about it, or None)."""
    plain = lambda config, **less: type(config)(**{**config.to_dict(), **less})
    default = {"rope_type": "default", "rope_theta": 100.0}
    of = {
        "gpt2": (gpt2(), None),
        "gpt2-untied": (gpt2(tie_word_embeddings=False), None),
        "llama": (llama(), None),
        "llama-tied": (
            llama(tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 500.0}),
            {"rope_parameters": default},
        ),
        "llama-linear": (scaled(rope_type="linear", factor=4.0), {"rope_parameters": default}),
        "llama-llama3": (
            scaled(
                rope_type="llama3",
                factor=4.0,
                low_freq_factor=1.0,
                high_freq_factor=4.0,
                original_max_position_embeddings=16,
            ),
            {"rope_parameters": default},
        ),
        "llama-yarn": (
            scaled(rope_type="yarn", factor=4.0, original_max_position_embeddings=16),
            {"rope_parameters": default},
        ),
        "llama-yarn-keys": (
            scaled(
                rope_type="yarn",
                factor=3.0,
                original_max_position_embeddings=16,
                beta_fast=2.0,
                beta_slow=0.5,
                attention_factor=0.8,
            ),
            {"rope_parameters": default},
        ),
        "mistral": (llama(MistralConfig, sliding_window=7, num_hidden_layers=3), {"sliding_window": None}),
        "qwen2": (llama(Qwen2Config), None),
        "qwen2-window": (
            llama(Qwen2Config, use_sliding_window=True, sliding_window=9, max_window_layers=0),
            {"use_sliding_window": False, "sliding_window": None, "layer_types": None},
        ),
        "qwen3": (llama(Qwen3Config, head_dim=12), None),
    }
    return {name: (config, less and plain(config, **less)) for name, (config, less) in of.items()}


def make_model(config, seed):
    """Random weights, and what the library starts at 0 or 1 (biases, norms) moved from there."""
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def load_model(directory, dtype=torch.float32):
    return transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, attn_implementation="eager").eval()


def make_row(seed, vocabulary=kVocabulary, length=kLength):
    return numpy.random.default_rng(seed).integers(0, vocabulary, length).tolist()


def logits_of(model, row):
    with torch.no_grad():
        return model(input_ids=torch.tensor([row])).logits[0].double()


def difference(logits, log_probabilities):
    """Of log-probabilities, over the largest logit: logits are those up to a number for each position."""
    expected = logits.log_softmax(-1)[: len(log_probabilities)]
    return float((expected - torch.from_numpy(log_probabilities)).abs().max() / max(1.0, float(logits.abs().max())))


class Questions:
    """A token file that asks for every next token at each position of a row of tokens, one in each row of the file: the
    losses of `evaluate --losses` are then all its log-probabilities."""

    def __init__(self, program, name, row, vocabulary=kVocabulary, positions=None):
        self.program, self.file = program, f"{name}.rows.h5"
        self.shape = (positions or len(row), vocabulary)
        self.length = len(row)
        ids = row + [0]  # the last position predicts what follows the row
        with open(os.path.join(program.folder, f"{name}.rows.jsonl"), "w") as file:
            for position in range(self.shape[0]):
                labels = [-100] * len(ids)
                for token in range(vocabulary):
                    labels[position + 1] = token
                    file.write(json.dumps({"input_ids": ids, "labels": labels}) + "\n")
        program(f"tokenize --from {name}.rows.jsonl --to {self.file} --vocab-size {vocabulary}")

    def ask(self, base, *options):
        """(positions, vocabulary), in double."""
        job = f"evaluate --config job.ini --model.base {base} --data.valid {self.file} --data.length {self.length}"
        self.program(f"{job} --train.batch 128 --losses losses.jsonl", *options)
        with open(os.path.join(self.program.folder, "losses.jsonl")) as file:
            return -numpy.array([json.loads(line)["loss"] for line in file]).reshape(self.shape)
