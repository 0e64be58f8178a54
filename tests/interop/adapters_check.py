"""Adapters and models of every shape between lorashard and PEFT: both ways, by all log-probabilities of a row.

Usage: adapters_check.py LORASHARD FOLDER
"""

import json
import os
import sys

import peft
import torch
import transformers
from peft import LoraConfig
from peft_models import load_in_peft, train_in_peft, write_job
from program import Program, Table
from tiny_models import Questions, difference, kApart, kBound, kinds, load_model, logits_of, make_model, make_row

program, table = Program(sys.argv[1], sys.argv[2]), Table()
at = lambda *name: os.path.join(program.folder, *name)

# Options of `train` and ranks. Separate q and v become one c_attn; a joint qkv three modules with one A.
kOwnTraining = {
    "gpt2": [
        (["--adapter.targets", "all"], 1),
        (["--adapter.targets", "all", "--mesh.tensor", 2], 2),
        (["--adapter.targets", "q,v", "--adapter.alpha.v", 5, "--adapter.rank.q", 3], 1),
        (["--adapter.targets", "q,k,v,o,down", "--adapter.layers", "1", "--adapter.rank.k", 2], 2),
    ],
    "llama": [
        (["--adapter.targets", "all"], 1),
        (["--adapter.targets", "all", "--mesh.tensor", 2], 2),
        (["--adapter.targets", "qkv,down", "--adapter.layers", "1"], 1),
        (["--adapter.targets", "q,v,gate", "--adapter.alpha.v", 5, "--adapter.rank.q", 3, "--mesh.pipeline", 2], 2),
    ],
}
kAnyOwnTraining = [(["--adapter.targets", "all"], 1)]

kPeftTraining = {
    "gpt2": [
        dict(target_modules=["c_attn"], fan_in_fan_out=True),
        dict(
            target_modules=["c_attn", "c_proj", "c_fc"],
            fan_in_fan_out=True,
            use_rslora=True,
            rank_pattern={"c_proj": 3, "h.1.mlp.c_fc": 6},
            alpha_pattern={"attn.c_proj": 5, "^transformer.h.0.mlp.c_fc": 2},
        ),
        dict(
            target_modules=["c_fc", "c_attn"],
            layers_to_transform=[1],
            layers_pattern="h",
            init_lora_weights="gaussian",
            lora_dropout=0.1,
        ),
    ],
    "llama": [
        dict(target_modules="all-linear"),
        dict(target_modules=r".*\.(0\.self_attn\.[qv]_proj|1\.mlp\.(up|down)_proj)", use_rslora=True),
        dict(
            target_modules=["q_proj", "o_proj", "gate_proj"],
            layers_to_transform=[1],
            init_lora_weights="orthogonal",
            rank_pattern={r".*\.[qo]_proj": 2},
            alpha_pattern={"gate_proj": 3.5},
        ),
        dict(target_modules="all-linear", exclude_modules=["k_proj", "down_proj"], base_model_name_or_path="a/name"),
    ],
}
kAnyPeftTraining = [dict(target_modules="all-linear", rank_pattern={"q_proj": 3}, alpha_pattern={"v_proj": 5})]


def told(options):
    return " ".join(str(o).removeprefix("--adapter.").removeprefix("--mesh.") for o in options)


def train_in_lorashard(name, options, ranks):
    """Twelve steps: B is far from zero. The adapters as a checkpoint and as a PEFT directory."""
    run = f"{name}.run{len(os.listdir(program.folder))}"
    job = f"train --config job.ini --model.base {name}.h5 --data.train random.h5 --data.length 16 --run.dir {run}"
    steps = "--train.steps 12 --train.batch 4 --optimizer.lr 0.02 --adapter.rank 4 --adapter.alpha 6"
    program(f"{job} {steps}", *options, ranks=ranks)
    program(f"export --from {run}/adapter.h5 --to {run}/peft")
    return f"{run}/adapter.h5", f"{run}/peft"


def from_lorashard_to_peft(name, row, questions, plain):
    for options, ranks in kOwnTraining.get(name, kAnyOwnTraining):
        checkpoint, directory = train_in_lorashard(name, options, ranks)
        expected = logits_of(load_in_peft(at(name), at(directory)), row)
        what = f"{ranks} ranks, {told(options)}" if ranks > 1 else told(options)
        table.near(
            f"lorashard's in PEFT: {what}",
            difference(expected, questions.ask(f"{name}.h5", "--adapter", checkpoint)),
            kBound,
        )
        table.near(
            "  and back in lorashard", difference(expected, questions.ask(f"{name}.h5", "--adapter", directory)), kBound
        )
        table.apart("  the base alone", difference(expected, plain), kApart)


def from_peft_to_lorashard(name, row, questions, plain):
    """Also merged by either, and the merged model in transformers."""
    for number, keys in enumerate(kPeftTraining.get(name, kAnyPeftTraining)):
        directory = f"{name}.peft{number}"
        model = train_in_peft(at(name), at(directory), LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=6, **keys))
        expected = logits_of(model, row)
        table.near(
            f"PEFT's in lorashard: {json.dumps(keys)[:56]}",
            difference(expected, questions.ask(f"{name}.h5", "--adapter", directory)),
            kBound,
        )
        table.apart("  the base alone", difference(expected, plain), kApart)
        merged = f"{name}.merged{number}"
        program(f"merge --config job.ini --model.base {name}.h5 --adapter {directory} --to {merged}.h5")
        program(f"export --from {merged}.h5 --to {merged}")
        ours, theirs = load_model(at(merged)), model.merge_and_unload()
        table.near(
            "  merged by PEFT, and by lorashard in transformers",
            float((logits_of(ours, row) - logits_of(theirs, row)).abs().max() / expected.abs().max()),
            kBound,
        )
        table.near("  merged, in lorashard", difference(expected, questions.ask(f"{merged}.h5")), kBound)
        compare_weights(ours, theirs)


def compare_weights(ours, theirs):
    """Either adds at most 6 products, the largest rank, to a weight and rounds: within 8 eps of the largest entry."""
    ours, theirs = ours.state_dict(), theirs.state_dict()
    table.equal("  names of merged weights", sorted(ours), sorted(theirs), f"{len(ours)}")
    furthest = max(float((ours[n] - theirs[n]).abs().max() / theirs[n].abs().max()) for n in theirs)
    table.near("  merged weights", furthest, 8 * torch.finfo(torch.float32).eps)


def check_kind(number, name, config, without):
    make_model(config, number).save_pretrained(at(name))
    program(f"import --from {name} --to {name}.h5")
    model, row = load_model(at(name)), make_row(number)
    questions = Questions(program, name, row)
    plain = questions.ask(f"{name}.h5")
    table.near("the base", difference(logits_of(model, row), plain), kBound)
    if without is not None:
        less = transformers.AutoModelForCausalLM.from_config(without, attn_implementation="eager").eval()
        less.load_state_dict(model.state_dict())
        table.apart("  without what is special about it", difference(logits_of(less, row), plain), kApart)
    program(f"export --from {name}.h5 --to {name}.again")
    again = load_model(at(f"{name}.again")).state_dict()
    table.equal(
        "  exported, the weights",
        all(torch.equal(v, again[k]) for k, v in model.state_dict().items()),
        True,
        f"{len(again)}",
    )
    table.near(
        "  exported, in transformers", difference(logits_of(load_model(at(f"{name}.again")), row), plain), kBound
    )
    from_lorashard_to_peft(name, row, questions, plain)
    from_peft_to_lorashard(name, row, questions, plain)


def main():
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}")
    write_job(program)
    for number, (name, (config, without)) in enumerate(kinds().items()):
        table.section(name, check_kind, number, name, config, without)
    return table.finish()


sys.exit(main())
