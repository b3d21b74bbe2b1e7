"""Train a small convolutional network on handwritten digits, going on where it was cut short."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

SEED = 7  # any fixed number: the same commit gives the same model
HELD_OUT = 450  # of 1,797 digits, a quarter is kept for judging
BATCH = 64
EPOCHS = int(os.environ.get("EPOCHS", "12"))
OUTPUTS = Path(os.environ.get("CYNTHUS_OUTPUTS", "outputs"))
CHECKPOINT = Path(os.environ.get("CYNTHUS_CHECKPOINTS", "checkpoints")) / "last.pt"
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def say(command: str, text: object) -> None:
    """Tell Cynthus something; anywhere else it is one more line of the log."""
    print(f"::{command}::{text}", flush=True)


def load():
    """Give (pictures, names) to learn from and (pictures, names) to be judged on."""
    with np.load(Path(__file__).with_name("digits.npz")) as file:
        pictures = torch.from_numpy(file["pictures"]).float().div(16).unsqueeze(1)
        names = torch.from_numpy(file["names"]).long()
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(SEED))
    pictures, names = pictures[order].to(DEVICE), names[order].to(DEVICE)
    return (pictures[HELD_OUT:], names[HELD_OUT:]), (pictures[:HELD_OUT], names[:HELD_OUT])


def network() -> nn.Module:
    """Two convolutions and a decision: 8 by 8 grey values in, ten scores out."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.25),
        nn.Linear(32 * 4 * 4, 10),
    )


def restore(model, optimizer):
    """Take up the last checkpoint, if there is one; give the history so far."""
    if not CHECKPOINT.exists():
        return []
    saved = torch.load(CHECKPOINT, map_location=DEVICE, weights_only=True)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    say("notice title=checkpoint", f"going on after epoch {len(saved['history'])}")
    return saved["history"]


def save_checkpoint(model, optimizer, history) -> None:
    """Keep the state; renaming last means that a half-written file is never read."""
    CHECKPOINT.parent.mkdir(parents=True, exist_ok=True)
    draft = CHECKPOINT.with_suffix(".tmp")
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "history": history}
    torch.save(state, draft)
    draft.replace(CHECKPOINT)


def train_epoch(model, optimizer, data, epoch: int) -> None:
    """Learn from every picture once, in an order that depends on the epoch alone."""
    pictures, names = data
    torch.manual_seed(SEED + epoch)  # so that an interrupted training ends like a straight one
    model.train()
    for batch in torch.randperm(len(names)).to(DEVICE).split(BATCH):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(pictures[batch]), names[batch]).backward()
        optimizer.step()


@torch.no_grad()
def judge(model, data) -> tuple[float, float]:
    """Give accuracy and loss on digits the model has never seen."""
    pictures, names = data
    model.eval()
    scores = model(pictures)
    accuracy = (scores.argmax(1) == names).float().mean().item()
    return accuracy, nn.functional.cross_entropy(scores, names).item()


def learn(model, train, held_out):
    """Train up to EPOCHS; give what was measured after each epoch."""
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    history = restore(model, optimizer)
    for epoch in range(len(history) + 1, EPOCHS + 1):
        train_epoch(model, optimizer, train, epoch)
        accuracy, loss = judge(model, held_out)
        history.append({"epoch": epoch, "accuracy": accuracy, "loss": loss})
        save_checkpoint(model, optimizer, history)
        say(f"metric name=loss,step={epoch}", f"{loss:.4f}")
        say(f"metric name=accuracy,step={epoch}", f"{accuracy:.4f}")
        say("progress", f"{epoch / EPOCHS:.3f}")
    return history


def summary(history) -> str:
    """Say in Markdown what was learned; Cynthus shows it on the check run."""
    last = history[-1]
    lines = [
        "## Handwritten digits, PyTorch",
        "",
        f"**{last['accuracy']:.1%}** of {HELD_OUT} held-out digits were read correctly after "
        f"{last['epoch']} epochs (cross entropy {last['loss']:.3f}), on `{DEVICE.type}`.",
        "",
        "| epoch | accuracy | loss |",
        "|---:|---:|---:|",
        *(f"| {one['epoch']} | {one['accuracy']:.4f} | {one['loss']:.4f} |" for one in history),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    started = time.monotonic()
    if DEVICE.type == "cpu":
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.manual_seed(SEED)
    OUTPUTS.mkdir(parents=True, exist_ok=True)

    say("phase", "load")
    train, held_out = load()
    model = network().to(DEVICE)

    say("phase", "train")
    history = learn(model, train, held_out)

    say("phase", "save")
    last = history[-1]
    torch.save(model.state_dict(), OUTPUTS / "model.pt")
    metrics = {"accuracy": last["accuracy"], "loss": last["loss"], "epochs": last["epoch"]}
    metrics |= {"held_out": HELD_OUT, "device": DEVICE.type, "history": history}
    (OUTPUTS / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    Path(os.environ.get("CYNTHUS_SUMMARY", OUTPUTS / "summary.md")).write_text(summary(history))

    seconds = time.monotonic() - started
    say("notice title=digits", f"accuracy {last['accuracy']:.4f} after {seconds:.1f} s on {DEVICE}")


if __name__ == "__main__":
    main()
