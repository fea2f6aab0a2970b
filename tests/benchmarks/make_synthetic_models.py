#!/usr/bin/env python3
"""Writes Llama models of random weights as GGUF files that llama.cpp and adainfer load: what a benchmark needs is the shape.

    make_synthetic_models.py --shape 110m 1.1b --dtype q8_0 q4_k_m --output FOLDER      (default: every shape and type)

Needs numpy and gguf from PyPI (written with 2.4 and 0.19). Files are named llama-SHAPE-TYPE.gguf and are the same ones every
time; 1.1b in f32 takes 4.4 GB of disk. One tensor is in memory at a time, 300 MB at most.

Shapes: 110m (12 layers of width 768, tied head) and 1.1b (TinyLlama's: 22 layers of width 2048, 32 heads on 4 K/V heads),
both with 32,000 tokens. Matrices have the type that llama-quantize gives them: the head of q4_0, q4_1, q5_0, q5_1 is q6_k, and
q4_k_m and q5_k_m store some of attn_v and ffn_down in q6_k. Blocks of quantised types are random bits with fitting scales, no
quantised numbers: every code is valid, and no quantiser writes k-quants in Python.
"""
import argparse
import math
from pathlib import Path

import gguf
import numpy as np

Type = gguf.GGMLQuantizationType
VOCABULARY, CONTEXT, HEAD_SIZE = 32000, 2048, 64
SHAPES = {
    "110m": dict(layers=12, hidden=768, feed_forward=2048, heads=12, kv_heads=12, tied=True),
    "1.1b": dict(layers=22, hidden=2048, feed_forward=5632, heads=32, kv_heads=4, tied=False),
}
DTYPES = {  # name on the command line -> type of most matrices, of some (None: no mix), of the head, and GGUF's name of the mix
    "f32": (Type.F32, None, Type.F32, "ALL_F32"),
    "f16": (Type.F16, None, Type.F16, "MOSTLY_F16"),
    "bf16": (Type.BF16, None, Type.BF16, "MOSTLY_BF16"),
    "q8_0": (Type.Q8_0, None, Type.Q8_0, "MOSTLY_Q8_0"),
    "q4_0": (Type.Q4_0, None, Type.Q6_K, "MOSTLY_Q4_0"),
    "q4_1": (Type.Q4_1, None, Type.Q6_K, "MOSTLY_Q4_1"),
    "q5_0": (Type.Q5_0, None, Type.Q6_K, "MOSTLY_Q5_0"),
    "q5_1": (Type.Q5_1, None, Type.Q6_K, "MOSTLY_Q5_1"),
    "q4_k_m": (Type.Q4_K, Type.Q6_K, Type.Q6_K, "MOSTLY_Q4_K_M"),
    "q5_k_m": (Type.Q5_K, Type.Q6_K, Type.Q6_K, "MOSTLY_Q5_K_M"),
    "q6_k": (Type.Q6_K, None, Type.Q6_K, "MOSTLY_Q6_K"),
}
BLOCKS = {  # where the binary16 scale stands, the minimum behind it in units of the scale, deviation of the values at scale 1
    Type.Q8_0: (0, None, 73.9),
    Type.Q4_0: (0, None, 4.6),
    Type.Q4_1: (0, -7.5, 4.6),
    Type.Q5_0: (0, None, 9.2),
    Type.Q5_1: (0, -15.5, 9.2),
    Type.Q4_K: (0, 7.5, 258.0),   # the k types subtract the minimum; scale and minimum are multiplied by 6 bits each
    Type.Q5_K: (0, 15.5, 522.0),
    Type.Q6_K: (208, None, 1367.0),
}


def more_bits(layer, layers):
    """Layers whose attn_v and ffn_down llama-quantize stores in the wider type: the first and last eighth, then every third."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def matrices(shape, dtype):
    """(name, rows, columns, type) of every tensor, a norm having no rows, in the order of the file."""
    most, some, head, _ = DTYPES[dtype]
    hidden, feed_forward, layers = shape["hidden"], shape["feed_forward"], shape["layers"]
    queries, keys = shape["heads"] * HEAD_SIZE, shape["kv_heads"] * HEAD_SIZE
    yield "token_embd.weight", VOCABULARY, hidden, head if shape["tied"] else most
    for i in range(layers):
        wide = some if some is not None and more_bits(i, layers) else most
        for name, rows, columns, kind in [
                ("attn_norm", None, hidden, Type.F32), ("attn_q", queries, hidden, most), ("attn_k", keys, hidden, most),
                ("attn_v", keys, hidden, wide), ("attn_output", hidden, queries, most), ("ffn_norm", None, hidden, Type.F32),
                ("ffn_gate", feed_forward, hidden, most), ("ffn_up", feed_forward, hidden, most),
                ("ffn_down", hidden, feed_forward, wide)]:
            yield f"blk.{i}.{name}.weight", rows, columns, kind
    yield "output_norm.weight", None, hidden, Type.F32
    if not shape["tied"]:
        yield "output.weight", VOCABULARY, hidden, head


def array_form(rows, columns, kind):
    """numpy's shape and type of a tensor's bytes."""
    if rows is None:
        return (columns,), np.dtype(np.float32)
    if kind in BLOCKS:
        size, stored = gguf.GGML_QUANT_SIZES[kind]
        assert columns % size == 0
        return (rows, columns // size * stored), np.dtype(np.uint8)
    return (rows, columns), np.dtype({Type.F32: np.float32, Type.F16: np.float16, Type.BF16: np.uint16}[kind])


def random_matrix(rng, rows, columns, kind):
    """A tensor's bytes. The standard deviation of a matrix keeps the layers' outputs of order 1."""
    form, element = array_form(rows, columns, kind)
    if rows is None:
        return 1 + np.float32(0.1) * rng.standard_normal(columns, dtype=np.float32)
    deviation = 1 / math.sqrt(columns)
    if kind not in BLOCKS:
        values = np.empty(form, element)
        for begin in range(0, rows, 1024):
            part = rng.standard_normal((min(1024, rows - begin), columns), dtype=np.float32) * np.float32(deviation)
            # The upper half of a float is a bfloat16.
            values[begin:begin + 1024] = (part.view(np.uint32) >> 16) if kind == Type.BF16 else part
        return values
    stored = gguf.GGML_QUANT_SIZES[kind][1]
    offset, minimum, spread = BLOCKS[kind]
    blocks = np.frombuffer(bytearray(rng.bytes(math.prod(form))), np.uint8).reshape(-1, stored)
    scale = rng.uniform(0.5, 1.5, len(blocks)) * deviation / spread
    if minimum is None:
        scale *= rng.choice([-1, 1], len(blocks))  # such codes reach one further below zero than above
    scale = scale.astype(np.float16)
    blocks[:, offset:offset + 2] = scale.view(np.uint8).reshape(-1, 2)
    if minimum is not None:
        blocks[:, offset + 2:offset + 4] = (scale * np.float16(minimum)).view(np.uint8).reshape(-1, 2)
    return blocks.reshape(form)


def add_vocabulary(writer):
    """SentencePiece's manner: unknown, begin, end, 256 bytes, then characters, then pieces that merge from those before them."""
    letters = "etaoinshrdlcumwfgypbvkjxqz"
    characters = ["\u2581", *letters, *(c for c in map(chr, range(0x21, 0x7F)) if c not in letters)]
    pairs = ["\u2581" + a for a in letters] + [a + b for a in letters for b in letters]
    words = [pair + c for pair in pairs for c in letters] + [a + b for a in pairs[26:] for b in pairs[26:]]
    pieces = (characters + pairs + words)[:VOCABULARY - 259]
    kinds = gguf.TokenType
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces])
    writer.add_token_scores([0.0] * 259 + [-float(i) for i in range(len(pieces))])
    writer.add_token_types([kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL, *[kinds.BYTE] * 256, *[kinds.NORMAL] * len(pieces)])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def write_model(path, shape_name, dtype, seed):
    shape = SHAPES[shape_name]
    partial = path.with_suffix(".partial")
    writer = gguf.GGUFWriter(partial, "llama")
    writer.add_name(f"llama-{shape_name}-{dtype}")
    writer.add_file_type(gguf.LlamaFileType[DTYPES[dtype][3]])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_block_count(shape["layers"])
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(shape["hidden"])
    writer.add_feed_forward_length(shape["feed_forward"])
    writer.add_head_count(shape["heads"])
    writer.add_head_count_kv(shape["kv_heads"])
    writer.add_rope_dimension_count(HEAD_SIZE)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    add_vocabulary(writer)
    tensors = list(matrices(shape, dtype))
    for name, rows, columns, kind in tensors:
        form, element = array_form(rows, columns, kind)
        writer.add_tensor_info(name, form, element, math.prod(form) * element.itemsize, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for index, (_, rows, columns, kind) in enumerate(tensors):
        writer.write_tensor_data(random_matrix(np.random.default_rng([seed, index]), rows, columns, kind))
    writer.close()
    partial.replace(path)
    print(f"{path}: {path.stat().st_size / 1e6:.0f} MB", flush=True)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--shape", nargs="+", choices=SHAPES, default=list(SHAPES))
    arguments.add_argument("--dtype", nargs="+", choices=DTYPES, default=list(DTYPES))
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--output", type=Path, default=Path("."), metavar="FOLDER")
    options = arguments.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for shape in options.shape:
        for dtype in options.dtype:
            write_model(options.output / f"llama-{shape}-{dtype}.gguf", shape, dtype, options.seed)


if __name__ == "__main__":
    main()
