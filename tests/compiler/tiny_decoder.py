"""A decoder of one layer with caches, small enough for tests that take no time."""

import numpy as np
import onnx

from tests.compiler.small import text_model

VOCABULARY, WIDTH, HEADS, SIZE = 40, 16, 2, 8


def tiny_decoder(seed: int = 0) -> onnx.ModelProto:
    """Attention of two heads with caches, a mask and learned positions; weights are noise.

    A quarter of what it says depends on the last token alone, so that the next token is not the
    same everywhere.
    """
    rng = np.random.default_rng(seed)

    def noise(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (rng.normal(size=shape) * scale / np.sqrt(shape[0])).astype(np.float32)

    split = np.array([0, 0, HEADS, SIZE], np.int64)
    constants = {
        "table": noise(VOCABULARY, WIDTH, scale=6),
        "places": noise(64, WIDTH, scale=4),
        "wq": noise(WIDTH, WIDTH), "wk": noise(WIDTH, WIDTH), "wv": noise(WIDTH, WIDTH),
        "wo": noise(WIDTH, WIDTH), "head": noise(WIDTH, VOCABULARY, scale=3),
        "split": split, "join": np.array([0, 0, WIDTH], np.int64),
        "zero": np.array(0, np.int64), "one": np.array(1, np.int64),
        "two": np.array(2, np.int64), "last": np.array([-1], np.int64),
        "middle": np.array([1], np.int64), "root": np.array(SIZE**-0.5, np.float32),
        "low": np.array(-1e9, np.float32), "none": np.array(0, np.float32),
        "ends": np.array([1, 2], np.int64),
    }  # fmt: skip
    model = text_model(
        f"""net (int64["batch", "sequence"] input_ids, int64["batch", "total"] attention_mask,
                int64["batch", "sequence"] position_ids,
                float["batch", {HEADS}, "past", {SIZE}] past_key_values__0__key,
                float["batch", {HEADS}, "past", {SIZE}] past_key_values__0__value)
            => (float["batch", "sequence", {VOCABULARY}] logits,
                float["batch", {HEADS}, "all", {SIZE}] present__0__key,
                float["batch", {HEADS}, "all", {SIZE}] present__0__value) {{
            e = Gather (table, input_ids)
            p = Gather (places, position_ids)
            x = Add (e, p)
            q = MatMul (x, wq)
            k = MatMul (x, wk)
            v = MatMul (x, wv)
            q4 = Reshape (q, split)
            k4 = Reshape (k, split)
            v4 = Reshape (v, split)
            qt = Transpose <perm = [0, 2, 1, 3]> (q4)
            kt = Transpose <perm = [0, 2, 1, 3]> (k4)
            vt = Transpose <perm = [0, 2, 1, 3]> (v4)
            present__0__key = Concat <axis = 2> (past_key_values__0__key, kt)
            present__0__value = Concat <axis = 2> (past_key_values__0__value, vt)
            kk = Transpose <perm = [0, 1, 3, 2]> (present__0__key)
            s = MatMul (qt, kk)
            scaled = Mul (s, root)
            mask3 = Unsqueeze (attention_mask, middle)
            mask = Unsqueeze (mask3, middle)
            is_text = Cast <to = 9> (mask)
            counted = CumSum (attention_mask, one)
            places_of = Sub (counted, one)
            own3 = Unsqueeze (position_ids, last)
            own = Unsqueeze (own3, middle)
            theirs = Unsqueeze (places_of, ends)
            earlier = LessOrEqual (theirs, own)
            seen = And (earlier, is_text)
            masked = Where (seen, scaled, low)
            a = Softmax <axis = -1> (masked)
            y = MatMul (a, present__0__value)
            yt = Transpose <perm = [0, 2, 1, 3]> (y)
            z = Reshape (yt, join)
            o = MatMul (z, wo)
            r = Add (x, o)
            logits = MatMul (r, head)
        }}""",
        constants,
        opset=21,
    )
    for names in (x for node in model.graph.node for x in (node.input, node.output)):
        names[:] = [name.replace("__", ".") for name in names]
    for end in (*model.graph.input, *model.graph.output):
        end.name = end.name.replace("__", ".")
    return model
