"""Models and adapters as files: older configurations, 16 bits in many files, and what is refused.

Usage: files_check.py LORASHARD FOLDER
"""

import json
import os
import sys

import peft
import torch
from peft import LoraConfig, get_peft_model
from peft_models import load_in_peft, train_in_peft, write_job
from program import Program, Table
from safetensors.torch import load_file
from tiny_models import Questions, difference, kBound, kinds, load_model, logits_of, make_model, make_row

program, table = Program(sys.argv[1], sys.argv[2]), Table()
at = lambda *name: os.path.join(program.folder, *name)

kRefused = {
    "gpt2": [
        (dict(target_modules=["c_attn"], bias="all"), "'bias'"),
        (dict(target_modules=["c_attn"], bias="lora_only"), "'bias'"),
        (dict(target_modules=["c_attn"], lora_bias=True), "'lora_bias'"),
        (dict(target_modules=["c_attn"], modules_to_save=["wpe"]), "'modules_to_save'"),
        (dict(target_modules=["c_attn", "wte"]), "wte.lora_embedding_A"),
        (dict(target_modules=["c_attn"], trainable_token_indices={"wte": [1, 2]}), "'trainable_token_indices'"),
    ],
    "llama": [
        (dict(target_modules=["q_proj"], use_dora=True), "'use_dora'"),
        (dict(target_modules=["q_proj", "lm_head"]), r"tensor 'base_model\.model\.lm_head\."),
        (dict(target_modules=["q_proj"], init_lora_weights="pissa"), "'init_lora_weights'"),
        (dict(target_modules=["q_proj"], layer_replication=[[0, 2], [1, 2]]), "'layer_replication'"),
        (dict(target_modules=["q_proj"], target_parameters=["mlp.up_proj.weight"]), "'target_parameters'"),
        (dict(target_modules=["q_proj"], alora_invocation_tokens=[1]), "'alora_invocation_tokens'"),
        (peft.IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]), "'peft_type'"),
        (peft.VeraConfig(target_modules=["o_proj"], r=4), "'peft_type'"),
        (peft.LoHaConfig(target_modules=["q_proj"], r=4), "'peft_type'"),
    ],
}


def older_positions(config):
    """As transformers 4 wrote them."""
    scaling = config.pop("rope_parameters")
    config |= {"rope_theta": scaling.pop("rope_theta"), "rope_scaling": scaling, "torch_dtype": config.pop("dtype")}


def no_window_after_all(config):
    config["layer_types"] = ["full_attention"] * config["num_hidden_layers"]


def no_layers_with_a_window(config):
    """max_window_layers is then more than there are."""
    del config["layer_types"], config["max_window_layers"]


def check_configurations():
    """Both read the same config.json, with keys that are older, are missing, or contradict each other."""
    edits = (
        ("llama-llama3", older_positions),
        ("qwen2-window", no_window_after_all),
        ("qwen2-window", no_layers_with_a_window),
    )
    for number, (name, edit) in enumerate(edits):
        edited, row = f"edited{number}", make_row(70 + number)
        os.makedirs(at(edited))
        os.link(at(name, "model.safetensors"), at(edited, "model.safetensors"))
        with open(at(name, "config.json")) as file:
            config = json.load(file)
        edit(config)
        with open(at(edited, "config.json"), "w") as file:
            json.dump(config, file)
        program(f"import --from {edited} --to {edited}.h5")
        answers = Questions(program, edited, row).ask(f"{edited}.h5")
        what = f"{name}, {edit.__name__.replace('_', ' ')}"
        table.near(what, difference(logits_of(load_model(at(edited)), row), answers), kBound)


def check_bf16(name, peft_keys):
    """Sharded files of 16 bits: read, widened, written again, and merged into."""
    source = f"{name}.sharded"
    load_model(at(name), torch.bfloat16).save_pretrained(at(source), max_shard_size="20KB")
    files = [f for f in os.listdir(at(source)) if f.startswith("model-")]
    table.row("files of the model", f"{len(files)}", len(files) > 2)
    row = make_row(99)
    questions = Questions(program, f"{name}.bf16", row)
    expected = logits_of(load_model(at(source)), row)
    for dtype in ("fp32", "bf16"):
        program(f"import --from {source} --to {source}.{dtype}.h5 --dtype {dtype}")
        table.near(
            f"imported as {dtype}, computed in fp32",
            difference(expected, questions.ask(f"{source}.{dtype}.h5")),
            kBound,
        )
    program(f"export --from {source}.bf16.h5 --to {source}.again")
    stored = {}
    for file in files:
        stored |= load_file(at(source, file))
    again = load_file(at(f"{source}.again", "model.safetensors"))
    table.equal(
        "exported, bit for bit",
        {k: v.tolist() for k, v in again.items()} == {k: v.tolist() for k, v in stored.items()},
        True,
        f"{len(stored)} tensors",
    )

    adapter = f"{name}.adapter"
    model = train_in_peft(at(name), at(adapter), LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=6, **peft_keys))
    deltas = {
        n.removeprefix("base_model.model.") + ".weight": m.get_delta_weight("default").detach()
        for n, m in model.named_modules()
        if hasattr(m, "get_delta_weight") and "default" in getattr(m, "lora_A", {})
    }
    program(f"merge --config job.ini --model.base {source}.bf16.h5 --adapter {adapter} --to merged16.h5")
    program(f"export --from merged16.h5 --to {source}.merged")
    found = load_model(at(f"{source}.merged"), torch.bfloat16).state_dict()
    other, count = 0, 0
    for key, delta in deltas.items():
        expected = (stored[key].float() + delta).bfloat16()
        other += int((found[key] != expected).sum())
        count += expected.numel()
    # Sums in another order round to the other neighbour where they are within 4 eps of fp32 of the middle between two
    # numbers of bf16, which are 2^16 eps apart: one of 8000 entries or fewer.
    table.near("merged, share of weights not rounded alike", other / count, 1 / 8000)
    theirs = load_in_peft(at(source), at(adapter), torch.bfloat16).merge_and_unload().state_dict()
    ulp = max(
        float(((found[k].float() - v.float()).abs() / v.float().abs().clamp(min=1e-3)).max()) for k, v in theirs.items()
    )
    table.near("merged by PEFT in bf16, largest difference of a weight", ulp, 2.0**-7)


def check_other_adapters():
    name = "llama"
    model = train_in_peft(
        at(name), at("adapter32"), LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=6, target_modules="all-linear")
    )
    model.to(torch.bfloat16).save_pretrained(at("adapter16"))
    row = make_row(55)
    questions = Questions(program, "adapter16", row)
    table.near(
        "in bf16",
        difference(
            logits_of(load_in_peft(at(name), at("adapter16")), row),
            questions.ask(f"{name}.h5", "--adapter", "adapter16"),
        ),
        kBound,
    )
    table.equal(
        "stored as",
        {str(v.dtype) for v in load_file(at("adapter16", "adapter_model.safetensors")).values()},
        {"torch.bfloat16"},
        "bfloat16",
    )
    bare = get_peft_model(
        load_model(at(name)).model,
        LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj", "up_proj"], init_lora_weights=False),
    )
    bare.save_pretrained(at("bare"))
    whole = load_model(at(name))
    whole.model = bare.merge_and_unload()
    table.near(
        "for LlamaModel", difference(logits_of(whole, row), questions.ask(f"{name}.h5", "--adapter", "bare")), kBound
    )


def check_refusals():
    for name, cases in kRefused.items():
        for keys, pattern in cases:
            config = keys if not isinstance(keys, dict) else LoraConfig(task_type="CAUSAL_LM", r=4, **keys)
            to = f"refused{table.rows}"
            try:
                get_peft_model(load_model(at(name)), config).save_pretrained(at(to))
            except (ValueError, TypeError, RuntimeError, NotImplementedError) as error:
                table.row(f"{pattern}", f"PEFT itself does not make one: {error}"[:120], False)
                continue
            job = f"evaluate --config job.ini --model.base {name}.h5 --data.valid random.h5 --data.length 16"
            table.names(pattern, program.refusal(f"{job} --adapter {to}"), pattern)


def main():
    write_job(program)
    for number, name in enumerate(("gpt2", "llama", "llama-llama3", "qwen2-window")):
        make_model(kinds()[name][0], number).save_pretrained(at(name))
        program(f"import --from {name} --to {name}.h5")
    table.section("other configurations", check_configurations)
    table.section(
        "gpt2 in bf16 and in many files",
        check_bf16,
        "gpt2",
        dict(target_modules=["c_attn", "c_fc"], fan_in_fan_out=True),
    )
    table.section("llama in bf16 and in many files", check_bf16, "llama", dict(target_modules="all-linear"))
    table.section("an adapter stored in bf16, and one for the model without its head", check_other_adapters)
    table.section("refused", check_refusals)
    return table.finish()


sys.exit(main())
