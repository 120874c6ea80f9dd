"""Networks of PyTorch, as a user's module has them; the tests copy this file into his folder.

Each function also writes what torch itself says to some samples into the current folder.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

Example = tuple[nn.Module, tuple[torch.Tensor, ...]]


def _keep(name: str, module: nn.Module, *shape: int) -> Example:
    """Set the statistics of batch norms as training does, and write down torch's own outputs."""
    generator = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None
    with torch.no_grad():
        module.train()
        for _ in range(4):
            module(torch.randn(16, *shape, generator=generator))
        module.eval()
        inputs = torch.randn(3, *shape, generator=generator)
        said = module(inputs)
    outputs = said if isinstance(said, torch.Tensor) else next(iter(said.values()))
    np.savez(Path(f"{name}.npz"), inputs=inputs.numpy(), outputs=outputs.numpy())
    return module, (torch.randn(1, *shape, generator=generator),)


class Residual(nn.Module):
    def __init__(self, read: int, made: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(read, made, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(made)
        self.conv2 = nn.Conv2d(made, made, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(made)
        self.down = nn.Identity()
        if stride != 1:
            down = nn.Conv2d(read, made, 1, stride, bias=False)
            self.down = nn.Sequential(down, nn.BatchNorm2d(made))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.down(x))


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        conv = nn.Conv2d(3, 16, 7, 2, 3, bias=False)
        self.stem = nn.Sequential(conv, nn.BatchNorm2d(16), nn.ReLU(True), nn.MaxPool2d(3, 2, 1))
        self.layers = nn.Sequential(Residual(16, 16, 1), Residual(16, 32, 2))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(32, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.flatten(self.pool(self.layers(self.stem(image))), 1))


def resnet() -> Example:
    torch.manual_seed(0)
    return _keep("resnet", ResNet(), 3, 32, 32)


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, channels // 4, 1)
        self.fc2 = nn.Conv2d(channels // 4, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(self.fc2(torch.relu(self.fc1(self.pool(x)))))


class Inverted(nn.Module):
    def __init__(self, read: int, wide: int, made: int, stride: int, *, gated: bool) -> None:
        super().__init__()
        deep = nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False)
        self.block = nn.Sequential(
            nn.Conv2d(read, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.Hardswish(),
            deep,
            nn.BatchNorm2d(wide),
            nn.Hardswish(),
            SqueezeExcite(wide) if gated else nn.Identity(),
            nn.Conv2d(wide, made, 1, bias=False),
            nn.BatchNorm2d(made),
        )
        self.residual = read == made and stride == 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.block(x)
        return x + y if self.residual else y


class MobileNetV3(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1, bias=False),
            nn.BatchNorm2d(16),
            nn.Hardswish(),
            Inverted(16, 32, 16, 1, gated=True),
            Inverted(16, 64, 24, 2, gated=False),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(24, 64), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(64, 10)
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.pool(self.features(image)), 1))


def mobilenet() -> Example:
    torch.manual_seed(0)
    return _keep("mobilenet", MobileNetV3(), 3, 32, 32)


class Vit(nn.Module):
    def __init__(self, width: int = 64, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.patch = nn.Conv2d(3, width, 8, 8)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.5)
        self.position = nn.Parameter(torch.randn(1, 17, width) * 0.5)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.head = nn.Linear(width, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.patch(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        batch, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.project(mixed.transpose(1, 2).reshape(batch, length, width))
        x = x + self.mlp(self.norm2(x))
        return self.head(x[:, 0])


def vit() -> Example:
    torch.manual_seed(0)
    return _keep("vit", Vit(), 3, 32, 32)


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.rnn = kind(16, 32, batch_first=True)
        self.fc = nn.Linear(32, 8)

    def forward(self, steps: torch.Tensor) -> dict[str, torch.Tensor]:
        every, _ = self.rnn(steps)
        return {"logits": self.fc(torch.relu(every))}


def lstm() -> Example:
    torch.manual_seed(0)
    return _keep("lstm", Recurrent(nn.LSTM), 12, 16)


def gru() -> tuple[nn.Module, tuple[torch.Tensor, ...], list[str]]:
    torch.manual_seed(0)
    return (*_keep("gru", Recurrent(nn.GRU), 12, 16), ["features"])


class Small(nn.Module):
    """What is trained with fake quantization: two convolutions, a sum, a pool and a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.conv2, self.bn2 = nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(16, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.conv1(image)))
        x = x + torch.relu(self.bn2(self.conv2(x)))
        return self.fc(torch.flatten(self.pool(x), 1))


def trained_quantized() -> Example:
    """Brightness in five classes, trained for a few steps by torchao's PT2E."""
    from torchao.quantization.pt2e import move_exported_model_to_eval
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_qat_pt2e
    from torchao.testing.pt2e._xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )

    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    config = get_symmetric_quantization_config(is_per_channel=True, is_qat=True)
    batch = ({0: torch.export.Dim("batch")},)
    with torch.enable_grad():
        example = torch.randn(2, 3, 16, 16, generator=generator)
        module = torch.export.export(Small(), (example,), dynamic_shapes=batch).module()
        module = prepare_qat_pt2e(module, XNNPACKQuantizer().set_global(config))
        optimizer = torch.optim.Adam(module.parameters(), 3e-3)
        for _ in range(30):
            shift = torch.randn(32, 1, 1, 1, generator=generator)
            images = torch.randn(32, 3, 16, 16, generator=generator) + shift
            classes = (shift.flatten() * 1.5).round().clamp(-2, 2).long() + 2
            loss = nn.functional.cross_entropy(module(images), classes)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        move_exported_model_to_eval(module)
        module = convert_pt2e(module)
    with torch.no_grad():
        inputs = torch.randn(64, 3, 16, 16, generator=generator)
        np.savez("trained_quantized.npz", inputs=inputs.numpy(), outputs=module(inputs).numpy())
    return module, (example[:1],)
