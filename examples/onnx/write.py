"""Write on from a text with a language model of characters, by onnxruntime and numpy alone:

elman export runs/book --to onnx --file book.onnx
python examples/onnx/write.py book.onnx "It was "
"""

import json
import sys

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1])
characters = json.loads(session.get_modelmeta().custom_metadata_map["tokenizer"])["characters"]
number = {character: i for i, character in enumerate(characters, start=1)}  # 0: any other

state = {  # zeros, of one text
    value.name: np.zeros([1 if isinstance(n, str) else n for n in value.shape], np.float32)
    for value in session.get_inputs()
    if value.name.startswith("state")
}
x = np.array([[number[character]] for character in "\n" + sys.argv[2]])  # (T, B)
print(sys.argv[2], end="")
for _ in range(100):
    logits, *ends = session.run(None, {"x": x, **state})
    state = dict(zip(state, ends, strict=True))
    likeliest = int(logits[-1, 0, 1 : len(characters) + 1].argmax())
    print(characters[likeliest], end="")
    x = np.array([[likeliest + 1]])
print()
