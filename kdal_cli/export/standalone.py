"""python predict.py model.onnx photo.jpg …: what images show. Needs onnxruntime, numpy and Pillow, nothing else."""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
card = json.loads(session.get_modelmeta().custom_metadata_map["kdal"])["card"]
size, how = card["shape"]["width"], card["preparation"]
sure = card["calibration"] or {"temperature": 1.0, "threshold": 0.0}
for path in sys.argv[2:]:
    image = Image.open(path)
    image.draft(None, (2 * max(size, how["side"]),) * 2)  # a large JPEG is decoded at a part of its size
    if image.mode not in ("L", "RGB") or image.has_transparency_data:
        ground = Image.new("RGBA", image.size, (*how["background"], 255))
        image = Image.alpha_composite(ground, image.convert("RGBA")) if image.has_transparency_data else image
        image = image.convert("RGB")
    edge = min(image.size) * size / (how["side"] or size)
    wide, high = image.size
    box = ((wide - edge) / 2, (high - edge) / 2, (wide + edge) / 2, (high + edge) / 2)
    box = None if how["resize"] == "stretch" else box
    square = ImageOps.exif_transpose(image.resize((size, size), Image.Resampling[how["interpolation"].upper()], box))
    pixels = np.asarray(square.convert({1: "L", 3: "RGB"}[card["shape"]["channels"]])).reshape(1, size, size, -1)
    (logits,) = np.asarray(session.run(None, {"pixels": pixels.transpose(0, 3, 1, 2)})[0]) / sure["temperature"]
    probs = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    unsure = " unsure" * bool(probs.max() < sure["threshold"])
    print(f"{path}\t{card['classes'][probs.argmax()]}\t{probs.max():.4f}{unsure}")
