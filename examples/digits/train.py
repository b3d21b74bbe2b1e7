"""Learn to read handwritten digits, epoch by epoch, and say how well on digits never seen."""

from __future__ import annotations

import json
import os
import struct
import time
import zlib
from pathlib import Path

import joblib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import confusion_matrix, log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

SEED = 7  # any fixed number: the same commit gives the same model
HELD_OUT = 0.25  # 450 of the 1,797 digits are kept for judging
CLASSES = np.arange(10)
EPOCHS = int(os.environ.get("EPOCHS", "20"))
OUTPUTS = Path(os.environ.get("CYNTHUS_OUTPUTS", "outputs"))


def say(command: str, text: object) -> None:
    """Tell Cynthus something; anywhere else it is one more line of the log."""
    print(f"::{command}::{text}", flush=True)


def learn(train, held_out):
    """Train for EPOCHS epochs; give the model and what was measured after each."""
    model = MLPClassifier(
        hidden_layer_sizes=(64,), batch_size=64, learning_rate_init=3e-3, random_state=SEED
    )
    history = []
    for epoch in range(1, EPOCHS + 1):
        model.partial_fit(*train, classes=CLASSES)
        accuracy = model.score(*held_out)
        loss = log_loss(held_out[1], model.predict_proba(held_out[0]), labels=CLASSES)
        history.append({"epoch": epoch, "accuracy": accuracy, "loss": loss})
        say(f"metric name=loss,step={epoch}", f"{loss:.4f}")
        say(f"metric name=accuracy,step={epoch}", f"{accuracy:.4f}")
        say("progress", f"{epoch / EPOCHS:.3f}")
    return model, history


def confusion_picture(counts, faces):
    """Draw the confusion matrix as grey values; the digits themselves label rows and columns."""
    cell = 32
    shares = counts / counts.sum(axis=1, keepdims=True)
    # The square root makes a single mistake visible beside fifty right answers.
    matrix = np.kron(255 * (1 - np.sqrt(shares)), np.ones((cell - 1, cell - 1)))
    picture = np.full((11 * cell, 11 * cell), 255.0)
    for row in range(10):
        for column in range(10):
            block = matrix[row * (cell - 1) :, column * (cell - 1) :][: cell - 1, : cell - 1]
            place_y, place_x = (row + 1) * cell, (column + 1) * cell
            picture[place_y : place_y + cell - 1, place_x : place_x + cell - 1] = block
    for digit, face in enumerate(faces):
        label = np.kron(255 - 255 * face / 16, np.ones((3, 3)))  # 8 pixels become 24
        here, edge = slice((digit + 1) * cell + 4, (digit + 1) * cell + 28), slice(4, 28)
        picture[here, edge] = picture[edge, here] = label
    return picture.round().astype(np.uint8)


def png(picture) -> bytes:
    """Write a grey picture as PNG: https://www.w3.org/TR/png-3/."""
    height, width = picture.shape
    rows = b"".join(b"\0" + row.tobytes() for row in picture)
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows, 9)),
        (b"IEND", b""),
    )
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def summary(history, counts) -> str:
    """Say in Markdown what was learned; Cynthus shows it on the check run."""
    last = history[-1]
    worst = max(
        ((counts[a, b], a, b) for a in range(10) for b in range(10) if a != b),
        key=lambda one: one[0],
    )
    lines = [
        "## Handwritten digits",
        "",
        f"**{last['accuracy']:.1%}** of {counts.sum()} held-out digits were read correctly "
        f"after {last['epoch']} epochs (log loss {last['loss']:.3f}).",
        "",
        f"Most frequent mistake: a {worst[1]} was read as a {worst[2]}, {worst[0]} times.",
        "",
        "| epoch | accuracy | loss |",
        "|---:|---:|---:|",
        *(f"| {one['epoch']} | {one['accuracy']:.4f} | {one['loss']:.4f} |" for one in history),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    started = time.monotonic()
    OUTPUTS.mkdir(parents=True, exist_ok=True)

    say("phase", "load")
    digits = load_digits()
    seen, unseen, seen_names, unseen_names = train_test_split(
        digits.data, digits.target, test_size=HELD_OUT, random_state=SEED, stratify=digits.target
    )
    scaler = MinMaxScaler().fit(seen)  # fitted on the training digits only

    say("phase", "train")
    held_out = (scaler.transform(unseen), unseen_names)
    model, history = learn((scaler.transform(seen), seen_names), held_out)

    say("phase", "evaluate")
    counts = confusion_matrix(unseen_names, model.predict(held_out[0]), labels=CLASSES)

    say("phase", "save")
    faces = [digits.images[digits.target == digit].mean(axis=0) for digit in CLASSES]
    joblib.dump(make_pipeline(scaler, model), OUTPUTS / "model.joblib")
    (OUTPUTS / "confusion.png").write_bytes(png(confusion_picture(counts, faces)))
    last = history[-1]
    metrics = {"accuracy": last["accuracy"], "loss": last["loss"], "epochs": EPOCHS}
    metrics |= {"held_out": int(counts.sum()), "confusion": counts.tolist(), "history": history}
    (OUTPUTS / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    report = Path(os.environ.get("CYNTHUS_SUMMARY", OUTPUTS / "summary.md"))
    report.write_text(summary(history, counts))

    seconds = time.monotonic() - started
    say("notice title=digits", f"accuracy {last['accuracy']:.4f} after {seconds:.1f} s")


if __name__ == "__main__":
    main()
