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
