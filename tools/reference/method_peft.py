"""An adapter of toque's in PEFT and one of PEFT's in toque: the log-probability of texts by both, in f32. Development aid:
pip install torch transformers peft gguf.

Usage: method_peft.py TOQUE MODEL.gguf METHOD FOLDER [TUNE OPTIONS...]    (MODEL: a byte-level vocabulary)
Tunes METHOD on a few texts, loads the run in PEFT, saves it again there (vera: without its projections too), and lets
toque wear that. Exit status 1 when a text's log-probability differs by more than 1e-3 a token."""
import json
import shutil
import subprocess
import sys

import torch
from gguf import GGUFReader
from peft import PeftModel

from llama_gguf import load

toque, path, method, folder, *options = sys.argv[1:]
texts = [f"the answer to {n} is {n * 7 % 10}, and so on" for n in range(8)]
rows = folder + "/rows.jsonl"
with open(rows, "w") as f:
    f.writelines(json.dumps({"text": t}) + "\n" for t in texts)


def run(*args, **more):
    return subprocess.run([toque, *args], check=True, stdout=subprocess.PIPE, **more).stdout.decode()


def scores(adapter):
    worn = ["-a", adapter] if adapter else []
    return [json.loads(line)["logprob"] for line in run("score", "-m", path, *worn, "--compute", "f32", "--quiet", rows).splitlines()]


end = [GGUFReader(path).fields["tokenizer.ggml.eos_token_id"].contents()]  # which text rows close with
ids = [[int(i) for i in run("tokenize", "-m", path, "--ids", "--quiet", input=t.encode()).split()] + end for t in texts]
worst = 0.0


def compare(what, adapter, model):
    global worst
    with torch.no_grad():
        for row, mine in zip(ids, scores(adapter)):
            logp = model(torch.tensor([row])).logits[0, -len(row):].log_softmax(-1)
            theirs = sum(logp[t, row[t + 1]].item() for t in range(len(row) - 1))
            worst = max(worst, abs(mine - theirs) / (len(row) - 1))
    print(f"{what}: at most {worst:.2e} a token")


run("tune", "-m", path, "-d", rows, "-o", folder + "/ours", "--overwrite", "--method", method, "--max-steps", "5", "--warmup", "0",
    "--lr", "0.05", "--quiet", *options)
compare("the base", None, load(path))
changed = max(abs(a - b) for a, b in zip(scores(None), scores(folder + "/ours")))
print(f"the adapter changes log-probabilities by up to {changed:.3g}")
model = PeftModel.from_pretrained(load(path), folder + "/ours").eval()
compare("ours in PEFT", folder + "/ours", model)
model.save_pretrained(folder + "/theirs")
compare("PEFT's in toque", folder + "/theirs", model)
if method == "vera":
    from safetensors.torch import load_file, save_file
    shutil.copytree(folder + "/theirs", folder + "/bare", dirs_exist_ok=True)
    tensors = load_file(folder + "/bare/adapter_model.safetensors")
    save_file({k: v for k, v in tensors.items() if "lambda" in k}, folder + "/bare/adapter_model.safetensors", {"format": "pt"})
    config = json.load(open(folder + "/bare/adapter_config.json"))
    json.dump({**config, "save_projection": False}, open(folder + "/bare/adapter_config.json", "w"))
    compare("PEFT's without projections in toque", folder + "/bare", PeftModel.from_pretrained(load(path), folder + "/bare").eval())
sys.exit(worst > 1e-3 or changed < 1e-2)
