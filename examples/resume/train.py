"""Learn two spirals, be cut short, go on, and prove that nothing was lost but time."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path

import torch
from torch import nn

SEED = 7  # any fixed number: the same commit gives the same model
POINTS = 400
BATCH = 50
EPOCHS = int(os.environ.get("EPOCHS", "20"))
LOSE_AT = int(os.environ.get("LOSE_AT", "0"))
FIRST_ATTEMPT = os.environ.get("CYNTHUS_ATTEMPT", "1") == "1"
TRY_AGAIN = 75  # the exit code that cynthus.yaml lists under retry
OUTPUTS = Path(os.environ.get("CYNTHUS_OUTPUTS", "outputs"))
CHECKPOINT = Path(os.environ.get("CYNTHUS_CHECKPOINTS", "checkpoints")) / "last.pt"

stopping = threading.Event()  # set when the machine is to be taken away


def say(command: str, text: object) -> None:
    """Tell Cynthus something; anywhere else it is one more line of the log."""
    print(f"::{command}::{text}", flush=True)


def spirals():
    """Give points on two spirals that are wound into each other, with the spiral of each."""
    noise = torch.Generator().manual_seed(SEED)
    turn = torch.linspace(0.5, 3.5, POINTS // 2) * torch.pi
    arm = torch.stack([turn.cos(), turn.sin()], dim=1) * turn.unsqueeze(1) / 10
    points = torch.cat([arm, -arm]) + torch.randn(POINTS, 2, generator=noise) * 0.02
    return points, torch.arange(POINTS) // (POINTS // 2)


def beginning():
    """Give a fresh model with its optimizer, the same every time."""
    torch.manual_seed(SEED)
    model = nn.Sequential(
        nn.Linear(2, 48), nn.Tanh(), nn.Linear(48, 48), nn.Tanh(), nn.Linear(48, 2)
    )
    return model, torch.optim.Adam(model.parameters(), lr=5e-3)


def restore(model, optimizer) -> int:
    """Take up the last checkpoint, if there is one; give the epochs that it holds."""
    if not CHECKPOINT.exists():
        return 0
    saved = torch.load(CHECKPOINT, weights_only=True)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])  # Adam's averages are half of the state
    return saved["epoch"]


def save(model, optimizer, epoch: int) -> None:
    """Keep the state beside the last one, then rename: a half-written file is never read."""
    CHECKPOINT.parent.mkdir(parents=True, exist_ok=True)
    draft = CHECKPOINT.with_suffix(".tmp")
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}
    torch.save(state, draft)
    draft.replace(CHECKPOINT)


def train_epoch(model, optimizer, data, epoch: int) -> None:
    """Learn from every point once, in an order that depends on the epoch alone."""
    points, spiral = data
    order = torch.randperm(POINTS, generator=torch.Generator().manual_seed(SEED + epoch))
    for batch in order.split(BATCH):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(points[batch]), spiral[batch]).backward()
        optimizer.step()


@torch.no_grad()
def judge(model, data) -> tuple[float, float]:
    """Give accuracy and loss."""
    points, spiral = data
    scores = model(points)
    accuracy = (scores.argmax(1) == spiral).float().mean().item()
    return accuracy, nn.functional.cross_entropy(scores, spiral).item()


def learn(model, optimizer, data, done: int) -> int:
    """Train from where it was up to EPOCHS, or until told to stop; give the epochs done."""
    for epoch in range(done + 1, EPOCHS + 1):
        train_epoch(model, optimizer, data, epoch)
        accuracy, loss = judge(model, data)
        # Told first, saved then: a checkpoint holds what was told before it was written.
        say(f"metric name=loss,step={epoch}", f"{loss:.6f}")
        say(f"metric name=accuracy,step={epoch}", f"{accuracy:.4f}")
        say("progress", f"{epoch / EPOCHS:.3f}")
        save(model, optimizer, epoch)
        if stopping.is_set() or (epoch == LOSE_AT and FIRST_ATTEMPT):
            say("notice title=resume", f"cut short after epoch {epoch}")
            sys.exit(TRY_AGAIN)
    return EPOCHS


def difference_from_straight(model, data) -> float:
    """Give the largest difference of any weight from those of an uninterrupted training."""
    straight, optimizer = beginning()
    for epoch in range(1, EPOCHS + 1):
        train_epoch(straight, optimizer, data, epoch)
    pairs = zip(model.parameters(), straight.parameters(), strict=True)
    return max((one - other).abs().max().item() for one, other in pairs)


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())  # finish the epoch, save, end
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    OUTPUTS.mkdir(parents=True, exist_ok=True)
    data = spirals()
    model, optimizer = beginning()

    say("phase", "restore")
    resumed = restore(model, optimizer)

    say("phase", "train")
    epoch = learn(model, optimizer, data, resumed)

    say("phase", "prove")
    accuracy, loss = judge(model, data)
    difference = difference_from_straight(model, data)
    say(f"metric name=resumed,step={epoch}", resumed)
    say(f"metric name=difference,step={epoch}", difference)
    found = {"accuracy": accuracy, "loss": loss, "resumed": resumed, "difference": difference}
    (OUTPUTS / "metrics.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
