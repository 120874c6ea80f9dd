"""Decoders as people write them in PyTorch, for the exporter to take apart."""

from pathlib import Path

import torch
from torch import Tensor, nn

WIDTH, HEADS, KV, SIZE, VOCABULARY = 32, 4, 2, 16, 50


def neighbours(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Pairs are neighbours (GPT-J, the first Llama); heads third."""
    a, b = x[..., ::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


def halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Pairs are half a head apart, as Hugging Face has it; heads second."""
    a, b = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
    return x * cos + torch.cat((-b, a), -1) * sin


class Block(nn.Module):
    """Normalized before; ``kind``: where the heads are turned, and what else differs."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, bias = kind, kind == "neighbours"
        norm = nn.LayerNorm if kind == "packed" else nn.RMSNorm
        self.norm, self.norm2 = norm(WIDTH), norm(WIDTH)
        kv = HEADS if kind == "packed" else KV
        self.heads = (HEADS, kv, kv)
        widths = [n * SIZE for n in self.heads]
        self.qkv = nn.Linear(WIDTH, sum(widths)) if kind == "packed" else None
        self.q, self.k, self.v = (nn.Linear(WIDTH, w, bias=bias) for w in widths)
        self.q_norm, self.k_norm = nn.RMSNorm(SIZE), nn.RMSNorm(SIZE)
        self.o = nn.Linear(HEADS * SIZE, WIDTH, bias=kind == "packed")
        self.gate, self.up = (nn.Linear(WIDTH, 64, bias=False) for _ in range(2))
        self.down = nn.Linear(64, WIDTH, bias=False)

    def project(self, x: Tensor) -> list[Tensor]:
        if self.qkv is not None:
            parts = self.qkv(x).split([n * SIZE for n in self.heads], -1)
        else:
            parts = [self.q(x), self.k(x), self.v(x)]
        b, t = x.shape[:2]
        return [p.view(b, t, n, SIZE) for p, n in zip(parts, self.heads, strict=True)]

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, past: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        b, t = x.shape[:2]
        q, k, v = self.project(self.norm(x))
        if self.kind == "neighbours":
            q, k = neighbours(q, cos, sin), neighbours(k, cos, sin)
        if self.kind == "halves":
            q, k = self.q_norm(q), self.k_norm(k)
        q, k, v = (u.transpose(1, 2) for u in (q, k, v))
        if self.kind == "halves":
            q, k = halves(q, cos, sin), halves(k, cos, sin)
        k, v = torch.cat((past[0], k), 2), torch.cat((past[1], v), 2)
        times = HEADS // self.heads[1]
        kk, vv = (u.repeat_interleave(times, 1) if times > 1 else u for u in (k, v))
        if self.kind == "halves":
            scores = torch.matmul(q, kk.transpose(2, 3)) * SIZE**-0.5 + mask
            y = torch.matmul(nn.functional.softmax(scores, -1, dtype=torch.float32), vv)
        else:
            y = nn.functional.scaled_dot_product_attention(q, kk, vv, attn_mask=mask)
        x = x + self.o(y.transpose(1, 2).reshape(b, t, HEADS * SIZE))
        n = self.norm2(x)
        hidden = (
            nn.functional.gelu(self.up(n))
            if self.kind == "packed"
            else nn.functional.silu(self.gate(n)) * self.up(n)
        )
        return x + self.down(hidden), k, v


class Net(nn.Module):
    """A decoder with two blocks, tied embeddings, a mask of its own making."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.places = nn.Embedding(64, WIDTH)
        self.blocks = nn.ModuleList(Block(kind) for _ in range(2))
        self.norm = nn.LayerNorm(WIDTH) if kind == "packed" else nn.RMSNorm(WIDTH)
        self.register_buffer("rates", 100.0 ** (-torch.arange(0, SIZE, 2).float() / SIZE))

    def angles(self, places: Tensor) -> tuple[Tensor, Tensor]:
        if self.kind == "halves":
            rates = self.rates[None, :, None].float().expand(places.shape[0], -1, 1)
            angle = (rates @ places[:, None, :].float()).transpose(1, 2)
            angle = torch.cat((angle, angle), -1)[:, None]
            return angle.cos() * 1.5, angle.sin() * 1.5
        angle = places[..., None, None] * self.rates
        return angle.cos(), angle.sin()

    def forward(self, ids: Tensor, attention_mask: Tensor, past: list[Tensor]):  # type: ignore[no-untyped-def]
        new = ids.shape[1]
        total = past[0].shape[2] + new if self.kind == "halves" else attention_mask.shape[1]
        places = (attention_mask.cumsum(-1) - 1).clamp(min=0)[:, -new:]
        seen = torch.ones(new, total, dtype=torch.bool).tril(total - new)[None, None]
        seen = seen & (attention_mask[:, None, None] > 0)
        least = torch.finfo(torch.float32).min
        mask = torch.full(seen.shape, least).masked_fill(seen, 0.0)
        x, (cos, sin) = self.embed(ids), self.angles(places)
        if self.kind == "packed":
            x = x + self.places(places)
        present = []
        for i, block in enumerate(self.blocks):
            x, k, v = block(x, cos, sin, mask, (past[2 * i], past[2 * i + 1]))
            present += [k, v]
        return (nn.functional.linear(self.norm(x), self.embed.weight), *present)


def export(kind: str, path: Path) -> None:
    """Write one as ONNX, as torch's exporter does."""
    torch.manual_seed(0)
    net = Net(kind).eval()
    ids, kv = torch.randint(0, VOCABULARY, (2, 7)), net.blocks[0].heads[1]
    past = [torch.randn(2, kv, 5, SIZE) for _ in range(4)]
    caches = [f"{i}.{part}" for i in range(2) for part in ("key", "value")]
    axes = {0: "batch", 1: "sequence"}, {0: "batch", 1: "total"}, [{0: "batch", 2: "past"}] * 4
    torch.onnx.export(
        net,
        (ids, torch.ones(2, 12, dtype=torch.long), past),
        input_names=["input_ids", "attention_mask", *(f"past_key_values.{n}" for n in caches)],
        output_names=["logits", *(f"present.{n}" for n in caches)],
        dynamic_shapes=axes,
        dynamo=True,
        opset_version=21,
        verbose=False,
    ).save(str(path))
