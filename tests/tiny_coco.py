"""A COCO 2017 of a few tiny images, in the official layout."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

# Official ids have gaps, and the file does not list them in order.
IDS = [id for id in range(1, 91) if id not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]


def picture(seed: int, width: int = 96, height: int = 80) -> Image.Image:
    """A smooth colourful image, another one for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def write_annotations(base: Path, part: str, names: dict[int, str], boxes: list[dict]) -> Path:
    """`instances_<part>.json` of these images; a box is image_id, category_id and maybe iscrowd."""
    content = {
        "images": [{"id": id, "file_name": name} for id, name in names.items()],
        "annotations": [{"id": i, "iscrowd": 0} | box for i, box in enumerate(boxes, start=1)],
        "categories": [{"id": id, "name": f"category {id}"} for id in reversed(IDS)],
    }
    path = base / "annotations" / f"instances_{part}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def write_coco(folder: Path, train: int = 40, test: int = 5) -> Path:
    """`folder`/coco with image i of each part showing one object of category IDS[i]."""
    base = folder / "coco"
    for part, count, first in (("train2017", train, 0), ("val2017", test, 1000)):
        (base / part).mkdir(parents=True)
        names = {first + i: f"{first + i:012}.jpg" for i in range(count)}
        for id, name in names.items():
            picture(id).save(base / part / name, quality=95)
        boxes = [{"image_id": first + i, "category_id": IDS[i]} for i in range(count)]
        write_annotations(base, part, names, boxes)
    return base
