"""Say the label of texts by onnxruntime; of elman only what makes words of a text, which needs no torch:

elman export runs/reviews --to onnx --file reviews.onnx
python examples/onnx/classify.py reviews.onnx "What a lovely film." "Never again."
"""

import json
import sys

import numpy as np
import onnxruntime

from elman.data.words import Lexicon

session = onnxruntime.InferenceSession(sys.argv[1])
codec = json.loads(session.get_modelmeta().custom_metadata_map["codec"])
encode = Lexicon.from_json(codec["lexicon"]).encoder()

rows = [encode(text)[: codec["longest"] or None] for text in sys.argv[2:]]
lengths = np.array([len(row) for row in rows], dtype=np.int64)
x = np.zeros((max(1, lengths.max()), len(rows)), dtype=np.int64)  # (T, B)
for b, row in enumerate(rows):
    x[: len(row), b] = row
[logits] = session.run(None, {"x": x, "lengths": lengths})
for text, k in zip(sys.argv[2:], logits.argmax(axis=1), strict=True):
    print(f"{codec['labels'][k]}\t{text}")
