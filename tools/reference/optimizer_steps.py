"""Expectations of tests/train/test_optimizer.c: three clipped steps of torch's AdamW and SGD, in double precision."""
import torch

start = [0.5, -1.25, 2.0, 0.0, -0.001]
grads = [[0.1, -0.2, 3.0, 1e-5, 0.0], [-0.3, 0.25, -1.0, 2e-5, 0.5], [0.05, 0.0, 0.5, -1e-5, 0.25]]


def run(make):
    p = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    optimizer = make([p])
    for g in grads:
        p.grad = torch.tensor(g, dtype=torch.float64)
        torch.nn.utils.clip_grad_norm_([p], 1.0)
        optimizer.step()
    return ", ".join(f"{x:.12g}" for x in p.tolist())


print("ADAMW", run(lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1)))
print("SGD", run(lambda p: torch.optim.SGD(p, lr=0.01, weight_decay=0.1)))

# The others, on a matrix and a vector of formula values, with probes like methods.py: norm, and sum of p_i cos(0.3 i + 1).
# Lion, 8-bit AdamW and Muon are written out from their papers in double precision; Adafactor is transformers' and the
# orthogonalization is compared with torch.optim.Muon's (which computes in bfloat16) as a check of this script.
import numpy as np
from transformers.optimization import Adafactor, get_cosine_with_hard_restarts_schedule_with_warmup, get_wsd_schedule


def wave(n, shift, scale):
    return scale * np.sin(0.7 * np.arange(n) + shift)


def gradient(t, n):
    i = np.arange(n)
    return np.sin(3.0 * t + 0.37 * i * i)


def lion(p, g, s, t, lr, wd):
    m = s.setdefault("m", np.zeros_like(p))
    c = 0.9 * m + 0.1 * g
    p -= lr * (np.sign(c) + wd * p)
    m *= 0.99
    m += 0.01 * g


def dynamic_map(signed):
    """Dettmers et al. 2022, as bitsandbytes builds it."""
    data = [0.0, 1.0]
    for i in range(7):
        n = 2**i if signed else 2 ** (i + 1)
        edges = np.linspace(0.1, 1, n + 1)
        means = 10.0 ** (i - 6) * (edges[:-1] + edges[1:]) / 2
        data += means.tolist() + ((-means).tolist() if signed else [])
    assert len(data) == 256
    return np.sort(np.array(data))


def through_a_byte(x, code):
    out = np.empty_like(x)
    for b in range(0, len(x), 256):
        block = x[b:b + 256]
        scale = np.abs(block).max()
        nearest = np.abs(block[:, None] / (scale or 1) - code[None]).argmin(1)
        out[b:b + 256] = scale * code[nearest]
    return out


def adamw8bit(p, g, s, t, lr, wd):
    m, v = s.setdefault("m", np.zeros_like(p)), s.setdefault("v", np.zeros_like(p))
    m[:], v[:] = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    p -= lr * (m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8) + wd * p)
    m[:], v[:] = through_a_byte(m, dynamic_map(True)), through_a_byte(v, dynamic_map(False))


def muon(p, g, s, t, lr, wd, shape):
    m = s.setdefault("m", np.zeros_like(p))
    m[:] = 0.95 * m + 0.05 * g
    x = (0.05 * g + 0.95 * m).reshape(shape)
    x = x / np.linalg.norm(x)
    if shape[0] > shape[1]:
        x = x.T
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
    if shape[0] > shape[1]:
        x = x.T
    p -= lr * (0.2 * max(shape) ** 0.5 * x.reshape(-1) + wd * p)


def show(name, p):
    probe = np.cos(0.3 * np.arange(len(p)) + 1)
    print(f"{name} {{{np.linalg.norm(p):.12g}, {p @ probe:.12g}}}")


def four_steps(step, n, *more):
    p, s = wave(n, 1.0, 0.5), {}
    for t in range(1, 5):
        step(p, gradient(t, n), s, t, 0.01, 0.1, *more)
    return p


show("LION", four_steps(lion, 12 * 20))
show("ADAMW8BIT", four_steps(adamw8bit, 64 * 70))
show("MUON wide", four_steps(muon, 12 * 20, (12, 20)))
show("MUON tall", four_steps(muon, 20 * 12, (20, 12)))
for shape in ((12, 20), (240,)):
    p = torch.tensor(wave(240, 1.0, 0.5).reshape(shape), requires_grad=True)
    opt = Adafactor([p], lr=0.01, scale_parameter=False, relative_step=False, warmup_init=False, weight_decay=0.1)
    for t in range(1, 5):
        p.grad = torch.tensor(gradient(t, 240).reshape(shape))
        opt.step()
    show(f"ADAFACTOR {shape}", p.detach().numpy().reshape(-1))

p = torch.tensor(wave(240, 1.0, 0.5).reshape(12, 20), dtype=torch.float32, requires_grad=True)
opt = torch.optim.Muon([p], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
for t in range(1, 5):
    p.grad = torch.tensor(gradient(t, 240).reshape(12, 20), dtype=torch.float32)
    opt.step()
off = np.abs(p.detach().numpy().reshape(-1) - four_steps(muon, 240, (12, 20))).max()
assert off < 2e-3, off

for make in (lambda o: get_cosine_with_hard_restarts_schedule_with_warmup(o, 2, 12, num_cycles=2),
             lambda o: get_wsd_schedule(o, 2, 4, num_training_steps=12)):
    o = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1)
    schedule, out = make(o), []
    for _ in range(13):
        out.append(schedule.get_last_lr()[0])
        o.step()
        schedule.step()
    print("SCHEDULE", ", ".join(f"{x:.17g}" for x in out))
