"""Digests of tiny runs of every family, objective and noise: `python -m tests.digests FILE`.

Writes FILE if it is not there, else compares with it. Weights and metrics are compared to the bit,
so a file is good for one machine and one version of torch. A change of structure must leave all of
them as they are.
"""

import argparse
import json
import sys
import tempfile
from hashlib import blake2b
from pathlib import Path

import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

DIGITS = ["data=mnist5k", "data.limit=320", "batch_size=64", "hidden=[32,16]", "latent=6"]
PHOTOS = ["data=photos64", "data.limit=96", "batch_size=16", "hidden=[4,8,8]", "latent=4"]
UNET = ["data=photos64", "data.limit=48", "batch_size=16", "depth=2", "latent=16"]
SMALL_UNET = [*UNET, "model.encoder.width=8", "model.encoder.blocks_per_stage=1"]
CASES = {
    "mlp": DIGITS,
    "mlp, dropout, norm, shift": [*DIGITS, "dropout=0.1", "norm=batch", "data.random_shift=1"],
    "mlp, labels": [*DIGITS, "conditional=true", "condition_encoder=true"],
    "mlp, photographs": [*PHOTOS[:3], "latent=8", "data.random_flip=true"],
    "mlp, tanh output": [*DIGITS, "output=tanh", "activation=tanh", "norm=layer"],
    "mlp, bernoulli": [*DIGITS, "objective=likelihood"],
    "mlp, psnr": [*DIGITS, "objective=psnr", "noise=gaussian"],
    "mlp, gaussian": [*DIGITS, "noise=gaussian", "noise.sigma=[0.05,0.3]"],
    "mlp, salt_pepper": [*DIGITS, "noise=salt_pepper"],
    "mlp, speckle": [*DIGITS, "noise=speckle", "noise.clip=false"],
    "mlp, mixed": [*DIGITS, "noise=mixed"],
    "mlp, clip, constant": [*DIGITS, "gradient_clip=0.5", "scheduler=constant"],
    "preset strong": [*DIGITS[:2], "preset=strong", "latent=2", "hidden=[32,16]"],
    "vae": [*DIGITS, "model=vae"],
    "vae, kl": [*DIGITS, "model=vae", "data.binarize=true", "objective.kl.weight=2",
                "objective.kl.warmup=0.5", "objective.kl.free_bits=0.1"],
    "iwae": [*DIGITS, "model=iwae"],
    "cvae": [*DIGITS, "model=cvae", "model.bottleneck.prior=label"],
    "ladder_vae": [*DIGITS, "model=ladder_vae"],
    "cnn": [*PHOTOS, "model=cnn"],
    "cnn, digits, gaussian": [*DIGITS[:3], "latent=6", "hidden=[4,8]", "model=cnn",
                              "noise=gaussian"],
    "cnn_unpool": [*PHOTOS, "model=cnn_unpool"],
    "cnn_skip": [*PHOTOS, "model=cnn_skip", "noise=speckle"],
    "cnn_vae": [*PHOTOS, "model=vae", "body=cnn", "lr=0.003"],  # more, and rounding decides
    "cnn_iwae": [*PHOTOS, "model=iwae", "body=cnn"],
    "cnn_cvae, digits": [*DIGITS[:3], "latent=6", "hidden=[4,8]", "model=cvae", "body=cnn"],
    "cnn_ladder_vae": [*PHOTOS, "model=ladder_vae", "body=cnn", "lr=0.0001"],
    "unet": [*SMALL_UNET, "model=unet", "model.encoder.attention=true"],
    "preset denoise": [*SMALL_UNET, "preset=denoise", "noise=gaussian"],
    "preset line": [*PHOTOS[:4], "preset=cnn_ablation/dense128_unpool", "latent=8"],
}  # fmt: skip
SAME = ["trainer.accelerator=cpu", "logger=none"]
SAME += ["trainer.enable_progress_bar=false"]


def digest(words: list[str], outputs: Path, epochs: int = 2, bits: int = 32) -> dict[str, object]:
    """Train one run; a digest of its last weights, and its test metrics."""
    from ae_lab.train import main

    own = [f"epochs={epochs}", f"trainer.precision={bits}-true", f"paths.outputs={outputs}"]
    sys.argv = ["ae_lab.train", *words, *SAME, *own]
    try:
        main()
    finally:
        GlobalHydra.instance().clear()
        HydraConfig.instance().cfg = None
    [folder] = outputs.glob("runs/*")
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    content = blake2b(digest_size=12)
    for value in state.values():
        content.update(value.contiguous().numpy().tobytes())
    metrics = json.loads((folder / "metrics.json").read_text())
    scores = {key: metrics[key] for key in sorted(metrics) if key.startswith(("test/", "val/"))}
    return {"weights": content.hexdigest(), **scores}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.digests")
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", nargs="*", default=list(CASES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    digests = {}
    for name in arguments.only:
        with tempfile.TemporaryDirectory() as folder:
            digests[name] = digest(CASES[name], Path(folder))
    if not arguments.file.is_file():
        arguments.file.write_text(json.dumps(digests, indent=1) + "\n")
        return
    expected = json.loads(arguments.file.read_text())
    differing = [name for name in digests if digests[name] != expected.get(name)]
    for name in differing:
        print(f"DIFFERENT {name}\n  {expected.get(name)}\n  {digests[name]}")
    print(f"{len(digests)} runs, {len(digests) - len(differing)} the same to the bit")
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
