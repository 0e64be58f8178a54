"""Adapters that PEFT trains and loads."""

import json
import os
import warnings

import torch
from peft import PeftModel, get_peft_model
from tiny_models import kVocabulary, load_model, make_row


def write_job(program):
    """job.ini, and rows of random tokens to train on."""
    at = lambda name: os.path.join(program.folder, name)
    with open(at("job.ini"), "w") as file:
        file.write("[device]\nthreads = 1\n")
    with open(at("random.jsonl"), "w") as file:
        file.writelines(json.dumps({"input_ids": make_row(1000 + i, length=17)}) + "\n" for i in range(64))
    program(f"tokenize --from random.jsonl --to random.h5 --vocab-size {kVocabulary}")


def train_in_peft(directory, to, config):
    """The trained model; its adapter is saved in `to`."""
    torch.manual_seed(3)
    model = get_peft_model(load_model(directory), config)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.02)
    model.train()
    for _ in range(6):
        ids = torch.randint(0, kVocabulary, (4, 16))
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    model.save_pretrained(to)
    return model


def load_in_peft(directory, adapter, dtype=torch.float32):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*(missing|unexpected).*keys")
        return PeftModel.from_pretrained(load_model(directory, dtype), adapter).eval()
