"""Makes the numbers of kInDouble in tests/core/test_oracle.cpp: the golden Llama runs in float64 throughout.

transformers' Llama casts to float32 in its norms, softmax, rotary positions and logits, whatever the model's type; here
those casts are taken out, and the rest is golden/make.py's own. Prints steps and the loss after training; OUT gets the
files that make.py writes. Some seconds.
Usage: llama_in_double.py ../shared/golden OUT
Needs: Debian's python3-torch (1.13), and from PyPI transformers==4.36.2 peft==0.7.1 accelerate==0.25.0 numpy==1.26.4
"""
import json
import shutil
import sys

golden, out = sys.argv[1:]
source = open(f"{golden}/make.py").read().rstrip()
call = "\nmain()"
assert source.endswith(call), "make.py has another last line"
make = {"__name__": "make"}
exec(compile(source.removesuffix(call), "make.py", "exec"), make)

import torch
from transformers.models.llama import modeling_llama


def rms_norm(self, x):
    return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)


def rotary(self, x, seq_len):
    frequencies = self.base ** (-torch.arange(0, self.dim, 2, dtype=torch.float64) / self.dim)
    angles = torch.outer(torch.arange(seq_len, dtype=torch.float64), frequencies).repeat(1, 2)
    return angles.cos(), angles.sin()


softmax, forward, to_float = torch.nn.functional.softmax, make["LlamaForCausalLM"].forward, torch.Tensor.float
modeling_llama.LlamaRMSNorm.forward = rms_norm
modeling_llama.LlamaRotaryEmbedding.forward = rotary
torch.nn.functional.softmax = lambda x, dim, dtype=None: softmax(x, dim=dim)


class Llama(make["LlamaForCausalLM"]):
    def forward(self, *args, **kwargs):
        torch.Tensor.float = lambda x: x  # of the logits; everything else is a double already
        try:
            return forward(self, *args, **kwargs)
        finally:
            torch.Tensor.float = to_float


shapes, seed, adapters = make["SHAPES"]["default"], 1, ("q", "k", "v", "o", "gate", "up", "down")
config = make["LlamaConfig"](use_cache=False, tie_word_embeddings=False, rope_theta=10000.0, rms_norm_eps=1e-5,
                             bos_token_id=1, eos_token_id=2, **shapes["llama"])
config._attn_implementation = "eager"
rows = make["make_rows"](seed + 2000, shapes, config.vocab_size)
expected = [json.loads(line) for line in open(f"{golden}/llama/base/rows.jsonl")]
assert rows == expected, "other rows than the golden runs'"
lora = dict(target_modules=[f"{name}_proj" for name in adapters], r=4, lora_alpha=8)
shutil.rmtree(f"{out}/llama", ignore_errors=True)
shutil.copytree(f"{golden}/llama/base", f"{out}/llama/base")
make["peft_run"](f"{out}/llama/lora_all", Llama, config, seed + 5, rows, shapes, lora, 1e-2)
make["full_run"](f"{out}/llama/full", Llama, config, seed + 5, rows, shapes, 3e-3)
for run in ("lora_all", "full"):
    for line in open(f"{out}/llama/{run}/steps.jsonl"):
        print(run, line.strip())
    print(run, json.load(open(f"{out}/llama/{run}/run.json"))["loss_after_training_on_step0_batch"])
